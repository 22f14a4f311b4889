#!/bin/sh
# Makes an input to try, md.tpr in the folder $1: a small box of water, to run for $2 steps.
set -e
mkdir -p "$1"
input=$(cd "$1" && pwd)
cd "$(mktemp -d)"
cat >topol.top <<'TOP'
#include "oplsaa.ff/forcefield.itp"
#include "oplsaa.ff/spc.itp"
[ system ]
water
[ molecules ]
TOP
gmx -quiet solvate -cs spc216 -box 1.86 1.86 1.86 -o water.gro -p topol.top
cat >md.mdp <<MDP
integrator = md
dt = 0.002
nsteps = $2
nstxout-compressed = 50
nstenergy = 50
nstlog = 50
nstcalcenergy = 50
cutoff-scheme = Verlet
rlist = 0.85
rcoulomb = 0.85
rvdw = 0.85
coulombtype = PME
tcoupl = v-rescale
tc-grps = System
tau-t = 0.5
ref-t = 300
gen-vel = yes
gen-temp = 300
gen-seed = 1
ld-seed = 1
constraints = all-bonds
MDP
gmx -quiet grompp -f md.mdp -c water.gro -p topol.top -o "$input/md.tpr" -maxwarn 2
