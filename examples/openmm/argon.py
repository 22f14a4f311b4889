"""Molecular dynamics of liquid argon with OpenMM: a run that can be killed at any moment, and ends the same.

Parameters: `steps`, `every` (steps between two frames), `seed`.
"""

import json
import os

import holdfast
import openmm
from openmm import unit

SIDE = 6  # particles on an edge of the cube that they start from
SPACING_NM = 0.40
MASS, SIGMA_NM, EPSILON_KJ = 39.948, 0.3405, 0.996


def make_context(seed):
    """216 argon atoms in a periodic box, on the platform whose results are the same to the last bit."""
    system = openmm.System()
    box = SIDE * SPACING_NM
    system.setDefaultPeriodicBoxVectors((box, 0, 0), (0, box, 0), (0, 0, box))
    force = openmm.NonbondedForce()
    force.setNonbondedMethod(openmm.NonbondedForce.CutoffPeriodic)
    force.setCutoffDistance(0.9)
    for _ in range(SIDE**3):
        system.addParticle(MASS)
        force.addParticle(0.0, SIGMA_NM, EPSILON_KJ)
    system.addForce(force)
    integrator = openmm.LangevinMiddleIntegrator(94.4, 1.0, 0.004)
    integrator.setRandomNumberSeed(seed)
    return openmm.Context(system, integrator, openmm.Platform.getPlatformByName("Reference"))


def start(context, seed):
    """Atoms on a lattice, with velocities of the temperature."""
    grid = range(SIDE)
    context.setPositions([(x * SPACING_NM, y * SPACING_NM, z * SPACING_NM) for x in grid for y in grid for z in grid])
    context.setVelocitiesToTemperature(94.4, seed)


def write_frame(context, step, trajectory, energies):
    """Append a frame and its energy, every bit of them."""
    state = context.getState(positions=True, energy=True)
    positions = state.getPositions().value_in_unit(unit.angstrom)
    trajectory.write(f"{len(positions)}\nstep {step}\n")
    trajectory.writelines(f"Ar {x!r} {y!r} {z!r}\n" for x, y, z in positions)
    total = (state.getPotentialEnergy() + state.getKineticEnergy()).value_in_unit(unit.kilojoule_per_mole)
    energies.write(f"{step} {total!r}\n")


def main():
    """Run."""
    job = holdfast.job()
    steps, every, seed = int(job.params["steps"]), int(job.params["every"]), int(job.params.get("seed", 1))
    context = make_context(seed)
    step, lengths = 0, {}
    if job.resumed:
        with open(os.path.join(job.checkpoint_dir, "context.chk"), "rb") as file:
            context.loadCheckpoint(file.read())  # positions, velocities, and the random numbers to come
        with open(os.path.join(job.checkpoint_dir, "state.json")) as file:
            step, lengths = json.load(file)
    else:
        start(context, seed)
    with (
        open(os.path.join(job.output_dir, "trajectory.xyz"), "a") as trajectory,
        open(os.path.join(job.output_dir, "energy.txt"), "a") as energies,
    ):
        outputs = [trajectory, energies]
        for output in outputs:  # what was written after the checkpoint is written again
            output.truncate(lengths.get(os.path.basename(output.name), 0))
        while step < steps and not job.should_stop:
            context.getIntegrator().step(every)
            step += every
            write_frame(context, step, trajectory, energies)
            job.progress(step, steps)
            if job.checkpoint_due() or job.should_stop:
                save(job, context, step, outputs)
    if step < steps:
        job.leave()


def save(job, context, step, outputs):
    """Return a checkpoint, with the lengths of the outputs at that moment."""
    lengths = {}
    for output in outputs:
        output.flush()
        lengths[os.path.basename(output.name)] = os.path.getsize(output.name)
    with job.checkpoint(step=step) as directory:
        with open(os.path.join(directory, "context.chk"), "wb") as file:
            file.write(context.createCheckpoint())
        with open(os.path.join(directory, "state.json"), "w") as file:
            json.dump([step, lengths], file)


if __name__ == "__main__":
    main()
