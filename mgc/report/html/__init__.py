"""One self-contained page that shows a whole program: figures, an interactive schedule, the chip, every ONNX node.

The page needs no network: its policy forbids it. `page` puts it together; `data` is what its scripts draw; the style
sheet and the scripts are the files beside this one.
"""
