"""`python -m ggn_tf`: the command line."""

from ggn_tf.cli import main

main(prog_name="ggn-tf")
