"""A pause deletes the old message before it sends the new one."""

from simulation.checker import MESSAGE

from lifecycle.attempt.acknowledgement import Acknowledgement

FOUND_AS = (MESSAGE,)


def install() -> None:
    send_anew = Acknowledgement.send_anew

    def swapped(self, record):
        self.delete()
        send_anew(self, record)

    Acknowledgement.send_anew = swapped
