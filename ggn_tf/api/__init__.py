"""The use cases of the product, for scripts and for the command line: one module per public function of `ggn_tf`."""
