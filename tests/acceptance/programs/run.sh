# A wrapper, as people write them: it prepares something, runs the trainer, and says that it is done.
set -e
echo "node $(hostname), $(date)"
"$PYTHON" "$(dirname "$0")/trainer.py" "$@"
echo "done"
