"""A process that appends events to a log and says `<seq>` on stdout once an event is on disk. To be killed at any moment."""

import os
import sys
import threading

from shopward.store.frames import Frame
from shopward.store.log import Log


def frame(seq: int, n: int) -> Frame:
    ids = [f"e{seq + i}" for i in range(n)]
    return Frame.of_events(seq, seq, b'{"type":"login"}\n' * n, range(seq, seq + n), ids, content=range(seq, seq + n))


def main(folder: str, count: int, threads: int) -> None:
    log, turn = Log.open(folder, segment_bytes=50_000), threading.Lock()

    def work() -> None:
        for i in range(count):
            with turn:
                seq = log.next_seq
                log.append(frame(seq, 1 + i % 3))
                last = log.next_seq - 1
            log.sync()
            os.write(1, f"{last}\n".encode())

    workers = [threading.Thread(target=work) for _ in range(threads)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
