"""The first screen: which representation to use, as one chart and one sentence a group."""
