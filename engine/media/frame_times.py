"""Give frames the times at which they are shown where a container stores only the order of decoding.

AVI has no presentation times at all, ASF and elementary MPEG video have them in decoding order: with B-frames FFmpeg
then stamps the frames of one film 1, 2, 4, 3, 5. The times themselves are right, and the decoder's order is; so the
earliest time that is still free belongs to the next frame that comes out.
"""

from __future__ import annotations

import heapq
from typing import TYPE_CHECKING

from mouthpiece.engine.media.containers import has_decoding_times
from mouthpiece.engine.media.probing import READ_ERRORS

if TYPE_CHECKING:
    from collections.abc import Iterator

    import av
    from av.container import InputContainer
    from av.video.stream import VideoStream


class DecodingClock:
    """Stamp the frames of a stream of pictures by the decoding times of its packets, in rising order.

    Every packet passes `register` before it is decoded, every frame `take_stamp` as it comes out.
    """

    def __init__(self) -> None:
        self.first: int | None = None  # the first stamp of all: time zero, in units of the stream
        self._free: list[int] = []  # heap of the stamps that no frame has yet

    def register(self, packet: av.Packet) -> None:
        """Note the decoding time of a packet, which becomes the stamp that its own frame carries."""
        if packet.size == 0 or packet.dts is None:
            return
        packet.pts = packet.dts
        self.first = packet.dts if self.first is None else self.first
        heapq.heappush(self._free, packet.dts)

    def discard(self, packet: av.Packet) -> None:
        """Forget the time of a packet that does not decode: no frame comes of it."""
        if packet.dts in self._free:
            self._free.remove(packet.dts)
            heapq.heapify(self._free)

    def take_stamp(self) -> int | None:
        """Take the stamp of the next frame, in units of the stream; None where packets had none."""
        return heapq.heappop(self._free) if self._free else None


def make_clock(container: InputContainer) -> DecodingClock | None:
    """Make the clock for an opened file; None where its container stores when frames are shown."""
    return DecodingClock() if has_decoding_times(container.format.name) else None


def map_presentation_stamps(packets: Iterator[av.Packet], clock: DecodingClock) -> dict[int, int]:
    """Map the decoding time of each packet of a stream to the time at which its frame is shown; decodes all of it.

    packets: of the stream, which are consumed.  clock: new.
    Packets of which no frame comes are not in the map.
    """
    shown = {}
    for packet in packets:
        clock.register(packet)
        try:
            frames = packet.decode()
        except READ_ERRORS:
            clock.discard(packet)
            continue
        for frame in frames:
            stamp = clock.take_stamp()
            if stamp is not None and frame.pts is not None:
                shown[frame.pts] = stamp
    return shown


def read_presentation_stamps(container: InputContainer, picture: VideoStream) -> dict[int, int] | None:
    """Read when the frames of an opened file's picture are shown, by the decoding times of their packets.

    None where the container stores it itself. The file is rewound afterwards.
    """
    clock = make_clock(container)
    if clock is None:
        return None
    picture.thread_type = "AUTO"
    shown = map_presentation_stamps(container.demux(picture), clock)
    container.seek(0)
    return shown
