"""The wire between devices and the control plane, one package for each version that devices in the field still speak."""
