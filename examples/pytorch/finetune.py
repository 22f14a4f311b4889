"""A small fine-tuning with PyTorch that can be killed at any moment, and gives the same loss curve.

The checkpoint holds all that the next step depends on: model, optimizer, scheduler, random numbers, and the place in
the data. Parameters: `steps`, `seed`, `pause` (seconds a step, to have time to kill it).
"""

import os
import time

import holdfast
import torch
from torch import nn

ROWS, FEATURES, BATCH = 512, 32, 16


def make_data():
    """Return a regression that a small network can learn."""
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(ROWS, FEATURES, generator=generator)
    return inputs, torch.sin(inputs).sum(1, keepdim=True)


class Training:
    """All that changes from step to step.

    Args:
        steps: In all.
        seed: Of the weights, the dropout, and the order of the data.
    """

    def __init__(self, steps, seed):
        torch.manual_seed(seed)
        self.model = nn.Sequential(nn.Linear(FEATURES, 64), nn.ReLU(), nn.Dropout(0.1), nn.Linear(64, 1))
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=1e-2)
        self.scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(self.optimizer, T_max=steps)
        self.order = torch.randperm(ROWS)
        self.position = 0

    def next_batch(self):
        """Return the rows of the next batch, in a new order once all have been seen."""
        if self.position + BATCH > ROWS:
            self.order, self.position = torch.randperm(ROWS), 0
        rows = self.order[self.position : self.position + BATCH]
        self.position += BATCH
        return rows

    def learn(self, inputs, targets):
        """One step; its loss."""
        rows = self.next_batch()
        loss = nn.functional.mse_loss(self.model(inputs[rows]), targets[rows])
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        self.scheduler.step()
        return loss.item()

    def state(self):
        """Return the content of a checkpoint."""
        return {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scheduler": self.scheduler.state_dict(),
            "order": self.order,
            "position": self.position,
            "random": torch.get_rng_state(),
        }

    def load(self, state):
        """Go on from *state*."""
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.scheduler.load_state_dict(state["scheduler"])
        self.order, self.position = state["order"], state["position"]
        torch.set_rng_state(state["random"])


def main():
    """Train."""
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    job = holdfast.job()
    steps, seed, pause = int(job.params["steps"]), int(job.params.get("seed", 1)), float(job.params.get("pause", 0))
    inputs, targets = make_data()
    training = Training(steps, seed)
    step = length = 0
    if job.resumed:
        saved = torch.load(os.path.join(job.checkpoint_dir, "training.pt"), weights_only=True)
        training.load(saved["training"])
        step, length = saved["step"], saved["length"]
    with open(os.path.join(job.output_dir, "loss.txt"), "a") as curve:
        curve.truncate(length)  # what was written after the checkpoint is written again
        while step < steps and not job.should_stop:
            loss = training.learn(inputs, targets)
            step += 1
            curve.write(f"{step} {loss!r}\n")
            job.progress(step, steps)
            time.sleep(pause)
            if job.checkpoint_due() or job.should_stop:
                curve.flush()
                state = {"training": training.state(), "step": step, "length": os.path.getsize(curve.name)}
                with job.checkpoint(step=step) as directory:
                    torch.save(state, os.path.join(directory, "training.pt"))
    if step < steps:
        job.leave()
    torch.save(training.model.state_dict(), os.path.join(job.output_dir, "model.pt"))


if __name__ == "__main__":
    main()
