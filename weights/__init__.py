"""The weights that come with the package, found by `i3dcli.zoo`; README.md says where every file is from."""
