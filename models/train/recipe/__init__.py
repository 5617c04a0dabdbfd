"""The f2d2 training recipe: teacher, trajectories, distillation, reference likelihoods, export."""
