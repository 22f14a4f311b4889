#!/bin/sh
# Ten lines of sh that survive any number of dead nodes: the sum of n^2 for n = 1 to $1, $2 seconds a step.
state=$HOLDFAST_CHECKPOINT_DIR/state; log=$HOLDFAST_OUTPUT_DIR/steps.log; n=0; sum=0
[ "$HOLDFAST_RESUMED" = 1 ] && read -r n sum <"$state" && head -n "$n" "$log" >"$log.new" && mv "$log.new" "$log"
while [ "$n" -lt "$1" ]; do
  sleep "$2"; n=$((n + 1)); sum=$((sum + n * n))
  echo "$n $sum" >>"$log"                                # only ever grows
  echo "$n $sum" >"$state.new"; mv "$state.new" "$state" # replaced by renaming: always whole
  echo "step $n of $1"
done
echo "$sum" >"$HOLDFAST_OUTPUT_DIR/result"
