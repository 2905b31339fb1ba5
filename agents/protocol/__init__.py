"""The wire between devices and the control plane, one package per version that devices in the field still speak."""
