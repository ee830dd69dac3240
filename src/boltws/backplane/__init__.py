"""What carries events between the processes and machines that serve one app."""
