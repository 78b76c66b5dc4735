"""A web page over a folder of studies, which shows them while their sweeps run."""
