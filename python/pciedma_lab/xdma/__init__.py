"""The parts of the model of AMD/Xilinx's DMA for PCI Express (XDMA); the card itself is cards/xdma.py."""
