"""The reference workload: a warehouse robot with a 60-ray lidar, simulated in MuJoCo. Its field is a simulation too."""
