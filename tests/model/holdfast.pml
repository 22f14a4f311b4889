/* The protocol of docs/protocol.md, small enough to check every interleaving of it (make model).

   One job, WORKERS workers that may be as slow as they like (a slow one is a zombie), a queue that delivers again whenever
   it wants, and a record that is only changed by compare-and-swap. Within the bounds below, at any moment: a worker
   crashes, a lease runs out under a living owner, the answer of a write is lost, a write is carried out late, an operator
   writes in between.

   Times and versions are not counted, or there would be no end of states. A record is fresh or not; whoever has read or
   written the record last holds its version (`current`), and a write takes the version from everybody else. */

#ifndef WORKERS
#define WORKERS 2
#endif
/* So many things go wrong in all: crashes, leases that run out under a living owner, lost answers, late writes, writes of an
   operator in between. */
#ifndef FAULTS
#define FAULTS 2
#endif

#define STEPS   2    /* the work */
#define EPOCHS  (2 + FAULTS)    /* attempts: one, one after a pause, and one for every fault */
#define SLOTS   2    /* messages: the first, and the one that a pause sends */
#define NOBODY  9

/* Deliberate bugs, to see that they are found (tests/model/check). */
#ifdef BUG_BLIND_WRITE
#define HOLDS(w) true
#else
#define HOLDS(w) current[w]
#endif
#ifdef BUG_COLLECT_ALL
#define MAY_REMOVE(e, w) true
#else
#define MAY_REMOVE(e, w) e <= mine[w]
#endif

mtype = { QUEUED, OWNED, PAUSED, COMPLETED };            /* states of the record */
mtype = { TAKE, COMMIT, PAUSE, COMPLETE, MARK };   /* writes */
mtype = { LANDED, LOST };                                /* what became of a write */

byte faults = FAULTS;
bool may_pause = true;

/* The record. */
mtype state = QUEUED;
byte epoch, dispatch, point_epoch, point_step, fallback_epoch, fallback_step;
bool fresh, published;

/* The bucket: which epoch has stored which step. Step 0 is the input. */
typedef Row { bool at[STEPS + 1] };
Row stored[EPOCHS + 1];

/* The queue: which messages there are. Each may be delivered at any time, to anybody: hidden messages come back. Its number
   is its slot's. */
bool message[SLOTS];

/* Workers. `current`: it holds the version of the record that stands. `landed`: what stands was written by its last write. */
bool current[WORKERS], landed[WORKERS], alive[WORKERS], kill[WORKERS];
byte mine[WORKERS], step[WORKERS], slot[WORKERS];

/* A write that is still on its way when its writer has given it up; and whether it still is its writer's last. */
byte late_by = NOBODY, late_epoch, late_step, late_slot;
mtype late_what;
bool late_current, late_is_last;

byte winners;

inline lose_version() {
  byte other;
  for (other : 0 .. WORKERS - 1) { current[other] = false; landed[other] = false }
  late_current = false
}

/* What a write changes; every one of these is a function of the record that it finds, as in lifecycle/keeper.py. */
inline change(what, by_epoch, by_step, by_slot) {
  if
  :: what == TAKE -> epoch = by_epoch; state = OWNED; fresh = true; if :: by_slot > dispatch -> dispatch = by_slot :: else fi
  :: what == COMMIT ->
       assert(by_step >= point_step);                                   /* the checkpoint never falls */
       if
       :: point_epoch != by_epoch || point_step != by_step ->
            fallback_epoch = point_epoch; fallback_step = point_step; point_epoch = by_epoch; point_step = by_step
       :: else
       fi;
       fresh = true
  :: what == PAUSE -> state = PAUSED
  :: what == COMPLETE -> if :: state != COMPLETED -> winners++; assert(winners == 1) :: else fi; state = COMPLETED
  :: what == MARK -> assert(state == COMPLETED); published = true      /* only a winner publishes */
  fi;
  assert(stored[point_epoch].at[point_step] && stored[fallback_epoch].at[fallback_step])   /* what it names is there */
}

/* A conditional write, and reading back after anything but a clean answer (lifecycle/ledger.py). */
inline write(w, what, outcome) {
  atomic { landed[w] = false; if :: late_by == w -> late_is_last = false :: else fi }
  outcome = 0;
  do
  :: outcome != 0 -> break
  :: outcome == 0 ->
       if
       :: atomic { HOLDS(w) ->
            lose_version(); change(what, mine[w], step[w], slot[w]); current[w] = true; landed[w] = true; outcome = LANDED }
       :: atomic { current[w] && faults > 0 ->                      /* it landed, and nobody says so */
            faults--; lose_version(); change(what, mine[w], step[w], slot[w]); landed[w] = true }
       :: atomic { current[w] && faults > 0 && late_by == NOBODY ->  /* it will land, or not */
            faults--; late_by = w; late_what = what; late_epoch = mine[w]; late_step = step[w]; late_slot = slot[w];
            late_current = true; late_is_last = true }
       :: !current[w]                                                     /* 412 */
       fi;
       atomic {                                                           /* no clean answer: read back */
         if
         :: outcome == LANDED
         :: else ->
         if
         :: landed[w] -> current[w] = true; outcome = LANDED
         :: !landed[w] && current[w]                                      /* not landed yet: the same again */
         :: !landed[w] && !current[w] && what != TAKE && what != MARK && epoch == mine[w] && state == OWNED ->
              current[w] = true                                           /* somebody wrote in between: merge */
         :: else -> outcome = LOST
         fi fi
       }
  od
}

proctype Worker(byte w) {
  byte e, s, was_epoch, was_step;
  mtype outcome;

idle:
  {
    atomic { alive[w] = false; mine[w] = 0; step[w] = 0; slot[w] = 0; current[w] = false; landed[w] = false; e = 0; s = 0;
             was_epoch = 0; was_step = 0; outcome = 0;
             if :: late_by == w -> late_is_last = false :: else fi };
    do
    :: true ->
end:   atomic {                                                   /* receive, read the record, judge the message */
         if
         :: message[0] -> slot[w] = 0
         :: message[1] -> slot[w] = 1
         fi;
         if
         :: state == COMPLETED && published -> message[slot[w]] = false; goto idle
         :: state == COMPLETED && !published -> current[w] = true; mine[w] = epoch; goto publish
         :: state != COMPLETED && slot[w] < dispatch -> message[slot[w]] = false; goto idle
         :: state == OWNED && fresh && slot[w] >= dispatch -> goto idle
         :: else -> assert(epoch < EPOCHS); current[w] = true; mine[w] = epoch + 1; alive[w] = true
         fi
       }
       write(w, TAKE, outcome);
       if
       :: outcome == LOST -> goto idle
       :: else -> break
       fi
    od;

work:
    atomic { step[w] = point_step; was_epoch = point_epoch; was_step = point_step }   /* restore */
    do
    :: step[w] == STEPS -> break
    :: step[w] < STEPS ->
         atomic { step[w]++; stored[mine[w]].at[step[w]] = true }          /* upload, under our own epoch */
         write(w, COMMIT, outcome);
         if :: outcome == LOST -> goto superseded :: else fi;
         atomic {                                        /* some time later: remove what no kept manifest names */
           for (e : 1 .. EPOCHS) { for (s : 1 .. STEPS) {
             if
             :: stored[e].at[s] && MAY_REMOVE(e, w) && !(e == mine[w] && s == step[w]) && !(e == was_epoch && s == was_step) ->
                  stored[e].at[s] = false;
                  assert(!(point_epoch == e && point_step == s) && !(fallback_epoch == e && fallback_step == s))
             :: else
             fi } };
           was_epoch = mine[w]; was_step = step[w]; e = 0; s = 0
         }
         if
         :: may_pause && step[w] < STEPS ->
              may_pause = false;
              write(w, PAUSE, outcome);
              if :: outcome == LOST -> goto superseded :: else fi;
#ifndef BUG_DELETE_FIRST
              message[1] = true;                                           /* first the new message... */
#endif
              if :: slot[w] == 0 -> message[0] = false :: else fi;         /* ...then not the old */
#ifdef BUG_DELETE_FIRST
              message[1] = true;
#endif
              goto idle
         :: true
         fi
    od;
    write(w, COMPLETE, outcome);
    if :: outcome == LOST -> goto superseded :: else fi;

publish:
    write(w, MARK, outcome);
    if :: outcome == LANDED -> message[slot[w]] = false :: else fi;
    goto idle;

superseded:
    goto idle                                            /* write nothing more */
  } unless { kill[w] };
  kill[w] = false;
  goto idle
}

/* Death takes a worker wherever it is; another takes its place. */
proctype Death() {
  byte w;
endd:
  do
  :: atomic { faults > 0 -> faults--; select(w : 0 .. WORKERS - 1); kill[w] = true; w = 0 }
  od
}

/* The lease runs out: at some time if its owner is gone, and, now and then, under an owner that lives but is slow. */
proctype Lease() {
  byte w;
  bool owner_lives;
endl:
  do
  :: atomic { fresh ->
       owner_lives = false;
       for (w : 0 .. WORKERS - 1) { if :: alive[w] && mine[w] == epoch -> owner_lives = true :: else fi };
       if
       :: !owner_lives -> fresh = false
       :: owner_lives && faults > 0 -> faults--; fresh = false
       :: else
       fi; owner_lives = false; w = 0 }
  od
}

proctype Network() {
endn:
  do
  :: atomic { late_by != NOBODY ->
       if
       :: late_current ->
            bool is_last = late_is_last;
            byte by = late_by;
            late_by = NOBODY;
            lose_version();
            change(late_what, late_epoch, late_step, late_slot);
            landed[by] = is_last; is_last = false; by = 0
       :: else -> late_by = NOBODY
       fi }
  od
}

/* An operator writes (a cancellation, say) without touching what the owner writes. */
proctype Operator() { endo: atomic { faults > 0 && state == OWNED -> faults--; lose_version() } }

init {
  atomic {
    byte i;
    for (i : 0 .. EPOCHS) { stored[i].at[0] = true };
    message[0] = true;
    for (i : 0 .. WORKERS - 1) { run Worker(i) }; run Death();
    run Lease(); run Network(); run Operator()
  }
}

ltl gets_there { <> (state == COMPLETED && published) }
