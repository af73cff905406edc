"""Unit tests touch no network: a socket opened here is an error in the test or in the layers."""

from __future__ import annotations

from pytest_socket import disable_socket


def pytest_runtest_setup() -> None:
    disable_socket()
