# SPDX-License-Identifier: Apache-2.0
"""The tests' own network slot: a tap in a namespace, and what may be sent to the guest from there."""
import ctypes
import fcntl
import os
import queue
import socket
import struct
import threading

GUEST_IP, GATEWAY, FAR = "10.177.0.2", "10.177.0.1", "203.0.113.9"
TUNSETIFF, TUN, TAP, NO_PI, VNET_HDR = 0x400454ca, 1, 2, 0x1000, 0x4000


class Slot:
    """A network namespace with a tap at the gateway's address, and a thread that lives in it."""

    def __init__(self, flags=TAP | NO_PI | VNET_HDR, up=True):
        self.work, self.done = queue.Queue(), queue.Queue()
        self.thread = threading.Thread(target=self._live, daemon=True)
        self.thread.start()
        self.tap = self.run(self._make, flags)
        self.run(self.set, "lo", FAR)
        self.run(self.set, "tap", GATEWAY)
        if not up:
            self.run(self.flags, "tap", 0)

    def _live(self):
        if ctypes.CDLL(None, use_errno=True).unshare(0x40000000) != 0:  # CLONE_NEWNET
            self.work = None
        for call in iter(self.work.get, None):
            try:
                self.done.put((call[0](*call[1:]), None))
            except BaseException as error:  # pylint: disable=broad-except
                self.done.put((None, error))

    def run(self, *call):
        self.work.put(call)
        value, error = self.done.get(timeout=10)
        if error:
            raise error
        return value

    @staticmethod
    def _make(flags):
        with open("/proc/sys/net/ipv6/conf/default/disable_ipv6", "w", encoding="ascii") as file:
            file.write("1")  # its frames would be counted
        fd = os.open("/dev/net/tun", os.O_RDWR | os.O_CLOEXEC | os.O_NONBLOCK)
        fcntl.ioctl(fd, TUNSETIFF, struct.pack("16sH22x", b"tap", flags))
        return fd

    @staticmethod
    def flags(name, flags):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            fcntl.ioctl(sock, 0x8914, struct.pack("16sH22x", name.encode(), flags))

    @classmethod
    def set(cls, name, address):
        """Gives the interface the address, a /30, and brings it up."""
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            for call, text in (0x8916, address), (0x891c, "255.255.255.252"):
                fcntl.ioctl(sock, call, struct.pack("16sHH4s16x", name.encode(), socket.AF_INET, 0,
                                                    socket.inet_aton(text)))
        cls.flags(name, 1)

    def socket(self, *kind, timeout=3):
        sock = self.run(socket.socket, *kind)
        sock.settimeout(timeout)
        return sock

    def connect(self, port=80, timeout=3):
        sock = self.socket(socket.AF_INET, socket.SOCK_STREAM, timeout=timeout)
        sock.connect((GUEST_IP, port))
        return sock

    def get(self, path="/", timeout=3):
        with self.connect(timeout=timeout) as sock:
            sock.sendall(f"GET {path} HTTP/1.0\r\n\r\n".encode())
            got = b""
            while data := sock.recv(4096):
                got += data
            return got.decode()

    def ping(self, size=56, timeout=3):
        with self.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP,
                         timeout=timeout) as sock:
            packet = bytearray(struct.pack("!BBHHH", 8, 0, 0, 77, 1) + os.urandom(size))
            total = sum(struct.unpack(f"!{len(packet) // 2}H", packet))
            total = (total & 0xffff) + (total >> 16)
            packet[2:4] = struct.pack("!H", ~(total + (total >> 16)) & 0xffff)
            sock.sendto(packet, (GUEST_IP, 0))
            while True:
                answer = sock.recv(4096)[20:]
                if answer[0] == 0:
                    return answer[4:] == packet[4:]

    def listen(self):
        """A socket that sees every frame from the guest."""
        sock = self.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
        sock.bind(("tap", 3))
        return sock

    def close(self):
        os.close(self.tap)
        self.work.put(None)
        self.thread.join()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()
