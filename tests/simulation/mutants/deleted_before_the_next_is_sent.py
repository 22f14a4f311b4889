"""A pause deletes the old message before it sends the new one."""

from simulation.checker import MESSAGE

from lifecycle.attempt.acknowledgement import Settlement

FOUND_AS = (MESSAGE,)


def install() -> None:
    send_anew = Settlement.send_anew

    def swapped(self, record):
        self.delete()
        send_anew(self, record)

    Settlement.send_anew = swapped
