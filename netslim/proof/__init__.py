"""Holds sub-networks to the masked full network: takes a converted network, gives a proof."""
