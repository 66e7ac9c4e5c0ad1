"""How near images that a model restores are to what they were."""

from __future__ import annotations

from dataclasses import dataclass

from gencli.data.base import Dataset
from gencli.metrics.base import AnswerMetric, Measured
from gencli.models.base import Model
from gencli.samplers.base import Answer


@dataclass(frozen=True, kw_only=True)
class Restoration(AnswerMetric):
    """PSNR in dB of held-out images restored with the model for prior: of the posterior's mean, else of MAP.

    Beside it ``psnr_gain``, the dB above total variation on the same images, with its paired error; ``coverage_90``,
    the share of pixels within the central 90 % of the posterior's draws; PSNR and SSIM of what was observed and of
    each estimate; and what chains say of themselves. All are means over images with their standard errors. The task is
    that of ``sampler=restore``, with its options.

    References:
        Wang, Bovik, Sheikh and Simoncelli, "Image quality assessment: from error visibility to structural similarity",
        2004 (SSIM); Rudin, Osher and Fatemi, "Nonlinear total variation based noise removal algorithms", 1992.
    """

    better = "higher"
    needs = "images, and sampler=restore"
    question = "restore"

    def check(self, dataset: Dataset, model: Model) -> None:
        if dataset.spec.kind != "image":
            shape = f"data={dataset.name} has shape {dataset.spec.shape}"
            raise ValueError(f"metrics=[restoration] needs images; {shape}: gencli sample tells squared errors")

    def measure(self, answer: Answer) -> Measured:
        said = dict(answer.diagnostics)
        best = next((key for key in ("psnr_mean", "psnr_map") if key in said), None)
        if best is None:
            raise ValueError("sampler.input: metrics=[restoration] needs the truth, which is that of held-out examples")
        first = [key for key in ("psnr_gain", "psnr_gain_se", "coverage_90", "coverage_90_se") if key in said]
        rest = [key for key in said if key not in (*first, best, f"{best}_se")]
        numbers = {key: said[key] for key in (*first, *rest)}
        truth, draws = answer.arrays["original"], answer.arrays.get("draws")
        drawn = 0 if draws is None else draws.shape[0] * draws.shape[1]
        what = {"says": f"dB of {'the posterior mean' if best == 'psnr_mean' else 'MAP'}"}
        return Measured(said[best], said.get(f"{best}_se"), numbers, what, drawn=drawn, examples=len(truth))
