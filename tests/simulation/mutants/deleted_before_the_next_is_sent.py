"""A pause deletes the old message before it sends the new one."""

from simulation.checker import MESSAGE

from lifecycle.attempt.acknowledgement import Acknowledgement

FOUND_AS = (MESSAGE,)


def install() -> None:
    send_continuation = Acknowledgement.send_continuation

    def swapped(self, record):
        self.delete()
        send_continuation(self, record)

    Acknowledgement.send_continuation = swapped
