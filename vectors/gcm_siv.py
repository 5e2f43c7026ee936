"""AES-256-GCM-SIV as RFC 8452 writes it, over AES as FIPS 197 does. Not in constant time."""

import struct


def xtime(a):
    return (a << 1 ^ (0x11b if a & 0x80 else 0)) & 0xff


def times(a, b):
    out = 0
    while b:
        if b & 1:
            out ^= a
        a, b = xtime(a), b >> 1
    return out


def s_box():
    box = []
    for value in range(256):
        inverse = next((one for one in range(256) if times(value, one) == 1), 0)
        out = 0x63
        for turn in range(5):
            out ^= (inverse << turn | inverse >> 8 - turn) & 0xff
        box.append(out)
    return box


BOX = s_box()


def schedule(key):
    words = [list(key[at:at + 4]) for at in range(0, 32, 4)]
    constant = 1
    for at in range(8, 60):
        word = list(words[at - 1])
        if at % 8 == 0:
            word = [BOX[byte] for byte in word[1:] + word[:1]]
            word[0] ^= constant
            constant = xtime(constant)
        elif at % 8 == 4:
            word = [BOX[byte] for byte in word]
        words.append([a ^ b for a, b in zip(words[at - 8], word)])
    return [sum(words[at:at + 4], []) for at in range(0, 60, 4)]


def aes(keys, block):
    state = [a ^ b for a, b in zip(block, keys[0])]
    for turn in range(1, 15):
        state = [BOX[byte] for byte in state]
        state = [state[(at + 4 * (at % 4)) % 16] for at in range(16)]
        if turn < 14:
            mixed = []
            for at in range(0, 16, 4):
                a, b, c, d = state[at:at + 4]
                mixed += [times(2, a) ^ times(3, b) ^ c ^ d, a ^ times(2, b) ^ times(3, c) ^ d,
                          a ^ b ^ times(2, c) ^ times(3, d), times(3, a) ^ b ^ c ^ times(2, d)]
            state = mixed
        state = [a ^ b for a, b in zip(state, keys[turn])]
    return bytes(state)


FIELD = 1 << 128 | 1 << 127 | 1 << 126 | 1 << 121 | 1


def dot(a, b):
    product = 0
    while b:
        if b & 1:
            product ^= a
        a, b = a << 1, b >> 1
    for _ in range(128):
        if product & 1:
            product ^= FIELD
        product >>= 1
    return product


def polyval(key, data):
    h, total = int.from_bytes(key, "little"), 0
    for at in range(0, len(data), 16):
        total = dot(total ^ int.from_bytes(data[at:at + 16], "little"), h)
    return total.to_bytes(16, "little")


def padded(data):
    return data + bytes(-len(data) % 16)


def seal(key, nonce, aad, plaintext):
    """Ciphertext and tag."""
    generating = schedule(key)
    parts = [aes(generating, struct.pack("<I", counter) + nonce)[:8] for counter in range(6)]
    authentication, encryption = parts[0] + parts[1], schedule(b"".join(parts[2:]))
    lengths = struct.pack("<QQ", len(aad) * 8, len(plaintext) * 8)
    total = bytearray(polyval(authentication, padded(aad) + padded(plaintext) + lengths))
    for at in range(12):
        total[at] ^= nonce[at]
    total[15] &= 0x7f
    tag = aes(encryption, bytes(total))
    counter, rest = struct.unpack("<I", tag[:4])[0], tag[4:15] + bytes([tag[15] | 0x80])
    out = b""
    for at in range(0, len(plaintext), 16):
        stream = aes(encryption, struct.pack("<I", counter) + rest)
        out += bytes(a ^ b for a, b in zip(plaintext[at:at + 16], stream))
        counter = (counter + 1) % 2 ** 32
    return out + tag


# RFC 8452, appendix C.2.
assert seal(bytes([1]) + bytes(31), bytes([3]) + bytes(11), b"", bytes([1]) + bytes(7)).hex() == \
    "c2ef328e5c71c83b843122130f7364b761e0b97427e3df28"
