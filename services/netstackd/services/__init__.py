"""What a router offers its networks (DHCP, router advertisements): sans-IO machines over the stack's sockets."""
