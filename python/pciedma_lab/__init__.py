"""Emulated PCI Express cards and the virtual machine that runs a real kernel with them."""
