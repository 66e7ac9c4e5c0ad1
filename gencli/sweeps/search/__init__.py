"""Search: trials whose configs Optuna proposes, trained by the pool of sweeps and compared on the validation split."""
