"""Applies a delta, from the package comment alone: decode.py DELTA BASE > TARGET. Needs the zstd program."""
import subprocess
import sys

BLOCK = 1 << 20


def uvarint(data, at):
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 127) << shift
        shift += 7
        if byte < 128:
            return value, at


def varint(data, at):
    value, at = uvarint(data, at)
    return (value >> 1) ^ -(value & 1), at


def table_of(data):
    """Reads the probabilities of symbols: RFC 8878, section 4.1.1."""
    bits, at = int.from_bytes(data, "little"), 4
    accuracy = (bits & 15) + 5
    left, probabilities = 1 << accuracy, []
    while left > 0:
        most = left + 1
        width = most.bit_length()
        short = (1 << width) - 1 - most  # so many values take a bit less
        value = (bits >> at) & ((1 << (width - 1)) - 1)
        at += width - 1
        if value >= short:
            value |= ((bits >> at) & 1) << (width - 1)
            at += 1
            if value >= 1 << (width - 1):
                value -= short
        probabilities.append(value - 1)
        left -= abs(value - 1)
        while value == 1:  # zero, and how many more are
            more = (bits >> at) & 3
            at += 2
            probabilities += [0] * more
            if more < 3:
                break
    assert left == 0
    return accuracy, probabilities, data[(at + 7) // 8 :]


def states_of(accuracy, probabilities):
    size = high = 1 << accuracy
    symbols = [0] * size
    for symbol, p in enumerate(probabilities):
        if p == -1:
            high -= 1
            symbols[high] = symbol
    at = 0
    for symbol, p in enumerate(probabilities):
        for _ in range(max(p, 0)):
            symbols[at] = symbol
            at = (at + (size >> 1) + (size >> 3) + 3) % size
            while at >= high:
                at = (at + (size >> 1) + (size >> 3) + 3) % size
    following = [abs(p) for p in probabilities]
    states = []
    for symbol in symbols:
        number = following[symbol]
        following[symbol] += 1
        width = accuracy + 1 - number.bit_length()
        states.append((symbol, width, (number << width) - size))
    return states


def entropy(data, size):
    """Two states take turns: RFC 8878, section 4.2.1.2."""
    accuracy, probabilities, data = table_of(data)
    states = states_of(accuracy, probabilities)
    bits = int.from_bytes(data, "little")
    left = bits.bit_length() - 1

    def read(n):
        nonlocal left
        left -= n
        return (bits >> left) & ((1 << n) - 1)

    turns, turn, out = [read(accuracy), read(accuracy)], 0, bytearray()
    while True:
        symbol, width, start = states[turns[turn]]
        out.append(symbol)
        if width > left:
            out.append(states[turns[1 - turn]][0])
            break
        turns[turn] = start + read(width)
        turn = 1 - turn
    assert len(out) == size
    return bytes(out)


def section(data, at):
    head, at = uvarint(data, at)
    size, method = head >> 2, head & 3
    if method == 0:
        return data[at : at + size], at + size
    if method == 1:
        return data[at : at + 1] * size, at + 1
    n, at = uvarint(data, at)
    coded = data[at : at + n]
    if method == 2:
        return entropy(coded, size), at + n
    out = subprocess.run(["zstd", "-dcq"], input=coded, capture_output=True, check=True).stdout
    assert len(out) == size
    return out, at + n


def block(body, base, offset, n):
    width = body[0]
    pieces, at = uvarint(body, 1)
    changes, at = uvarint(body, at)
    pieces_list, at = section(body, at)
    literals, at = section(body, at)
    gaps, at = section(body, at)
    planes = []
    for _ in range(width):
        plane, at = section(body, at)
        planes.append(plane)
    assert at == len(body)

    places, at, end, shift, lanes = [], 0, 0, 0, bytearray()
    for _ in range(pieces):
        gap, at = uvarint(pieces_list, at)
        size, at = uvarint(pieces_list, at)
        step, at = varint(pieces_list, at)
        shift += step
        start, end = end + gap, end + gap + size
        places.append((start, size))
        lanes += base[offset + start + shift : offset + end + shift]
    lanes += bytes(width)

    lane, gap = -1, 0
    for i in range(changes):
        while gaps[gap] == 255:
            lane += 255
            gap += 1
        lane += gaps[gap] + 1
        gap += 1
        z = 1 + sum(plane[i] << 8 * k for k, plane in enumerate(planes))
        change = -(z + 1) // 2 if z & 1 else z // 2
        here = slice(lane * width, lane * width + width)
        value = int.from_bytes(lanes[here], "little") + change
        lanes[here] = (value % (1 << 8 * width)).to_bytes(width, "little")

    out, literal, lane = bytearray(), 0, 0
    for start, size in places:
        gap = start - len(out)
        out += literals[literal : literal + gap] + lanes[lane : lane + size]
        literal += gap
        lane += size
    out += literals[literal:]
    assert len(out) == n
    return out


def apply(delta, base):
    magic = b"shardcast delta 1\n"
    assert delta.startswith(magic)
    base_size, at = uvarint(delta, len(magic))
    target_size, at = uvarint(delta, at)
    assert base_size == len(base)
    out = bytearray()
    while len(out) < target_size:
        size, at = uvarint(delta, at)
        if size > 0:
            out += block(delta[at : at + size], base, len(out), min(BLOCK, target_size - len(out)))
            at += size
            continue
        blocks, at = uvarint(delta, at)
        shift, at = varint(delta, at)
        n = min(blocks * BLOCK, target_size - len(out))
        out += base[len(out) + shift : len(out) + shift + n]
    assert at == len(delta)
    return out


if __name__ == "__main__":
    with open(sys.argv[1], "rb") as d, open(sys.argv[2], "rb") as b:
        sys.stdout.buffer.write(apply(d.read(), b.read()))
