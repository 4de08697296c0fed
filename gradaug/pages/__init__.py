"""TRAINING RUNS AS A PAGE: takes records (gradaug.training.record), gives one HTML file that opens offline."""
