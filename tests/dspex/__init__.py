"""The tests of `dspex`."""
