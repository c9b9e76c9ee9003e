"""Output links, activations and losses: values that carry what methods need of them."""
