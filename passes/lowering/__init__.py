"""From tensor level to crossbar products, moves and vector kernels."""
