"""The second stage of models with several attributes: the gate, debiasing, steering's defaults."""
