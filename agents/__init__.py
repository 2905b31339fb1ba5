"""The device: an agent with few dependencies, the wire it speaks, and the kit a robot application imports."""
