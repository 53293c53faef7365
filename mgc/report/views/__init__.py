"""What can be shown of a program, one file a view: `facts` (plain values for JSON) and `render` (text) side by side."""
