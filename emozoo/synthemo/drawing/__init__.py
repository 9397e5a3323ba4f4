"""Drawing of SynthEmo: people, scenes and things as plain numpy arrays, without any random state of their own."""
