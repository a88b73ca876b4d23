"""Machines that Vagrant makes for the place ``vagrant``, and the box that is built where no catalogue is in reach."""
