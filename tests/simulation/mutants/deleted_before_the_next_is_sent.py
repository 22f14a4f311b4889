"""A pause deletes the old message before it sends the new one."""

from simulation.checker import MESSAGE
from simulation.mutants import replace

from lifecycle.attempt.acknowledgement import Acknowledgement
from lifecycle.job_record import JobRecord

FOUND_AS = (MESSAGE,)


def install() -> None:
    send_continuation = Acknowledgement.send_continuation

    def swapped(self: Acknowledgement, record: JobRecord) -> None:
        self.delete()
        send_continuation(self, record)

    replace(Acknowledgement, "send_continuation", swapped)
