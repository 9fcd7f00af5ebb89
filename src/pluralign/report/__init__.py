"""Reports: result files in, pictures and pages out. No models are loaded."""
