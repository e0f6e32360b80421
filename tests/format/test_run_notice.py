"""The notice of a run, to the byte, and what it refuses."""

from __future__ import annotations

import dataclasses
from datetime import UTC, datetime

import orjson
import pytest

from checkpoint_manager._format import run_notice
from checkpoint_manager._format.checkpoint_file import BrokenError, Writer
from checkpoint_manager._format.hidden import Hidden
from tests.attacks.fields import NASTY, exchanged, paths

ORIGIN = Writer("anna", "node7", 4711, "3.13.1", "1.0")
BEGAN = datetime(2026, 11, 27, 17, 10, tzinfo=UTC)
NOTICE = run_notice.RunNotice("train", "5c0f" * 8, "a7", BEGAN, BEGAN, ORIGIN, stages=("clean", "train"))
CONTENT = (
    b'{"stage":"train","name":"5c0f5c0f5c0f5c0f5c0f5c0f5c0f5c0f","run":"a7","started_at":"2026-11-27T17:10:00.000000Z",'
    b'"updated_at":"2026-11-27T17:10:00.000000Z","resumed":0,"done":null,"total":null,'
    b'"origin":{"user":"anna","host":"node7","pid":4711,"python":"3.13.1","library":"1.0"},"stages":["clean","train"]}'
).ljust(512)
CONTENT_1 = CONTENT.replace(b',"stages":["clean","train"]', b"").ljust(512)
SEALED_1 = bytes.fromhex(
    "7b22666f726d6174223a22636865636b706f696e742d6d616e616765722d72756e2f31222c2273746f7265223a2235353535353535353535"
    "35353535353535353535353535353535353535353535222c226b6579223a2230303030303030303030303030303030227d0a244d310bb53a"
    "7c8f2cfe4dd27471e1b72e0ff3a51e8d51679691bd275bd2e19cdf10f340f3a4b29583db15bb6b995354fc13c31245088b505ca990090d30"
    "c4bb9a9cf9e395a7f356513e89d0f436286108e759488869c035272d50ad3026739f1c9512dedc47216db2d50815e6a8e82466ddea650e90"
    "619c368cf152e9616ce96dcea7a0d73e3d767b1d17f5c69d999a95415df529c6f2ae6a56d834a2c4883daae10752ce20f5f2f6fb7e832d88"
    "dc5f049e28dd3e9c5d516d0cef859550e0796503a552d7130105772cd5e966878c7e82753bffd9d2298a951c98cc90021c613b1911aad305"
    "ffad1633d200e7a5f765b408e1ec5b3786ff8fee46b9e9d8a8e627604b8cb2847ac5db05bdb919d5373cd61cc0d3155d24da838afa1872f4"
    "8e8d0c99fe678c42415cf09022065540736cdfe9398e98abc4af595ae73ebfe811e119d3db18eb109505b724baa2269928137e82a4f040e9"
    "19d22717a04a1f7f3aebac580b8d6a52562259c08473840072ef3f750810afa8fed591b1f947fbd2f3316480997e7c0c886f9cf1577b2859"
    "e0b0a394b915c4b24dc0df5cf3f8059d059565e0166a53dbc0cc24c4e65ec3611b9969475f34a3e72e0b7f066721535cac0a7e591e37d408"
    "4c30300f67c7898b4d3e530dcb5e1fdca6e904d3cd45024f2646e1d0d0c3bf2a3dfc59202f196305fea4ccf4fabd6f68d9cc78849012768e"
    "f0d9f8091f9cd9c331a7a05bd9f74c9057ea15ed6aa09ac059e7ba052dc9d262bc838e9d5d27480e766ccf5b33858a83ac595152307b2909"
    "c7855e2da9da01638016be62353d97e8b6f0"
)
SEALED = bytes.fromhex(
    "7b22666f726d6174223a22636865636b706f696e742d6d616e616765722d72756e2f32222c2273746f7265223a2235353535353535353535"
    "35353535353535353535353535353535353535353535222c226b6579223a2230303030303030303030303030303030227d0a90c4f09bfc2e"
    "a360980afb7bf2f9ad878445460386d89c9946fd437055b5dd1481708c80aefe3c042de384e6918c1d70e47663a04d32bd23f50a4ac46df2"
    "dfe945e428cc6e20ee3f70600f78e7883a3e2a575bee1c8c44cd94fa29676b248b9c2c0dae79682f3ffd03e9ffaba689a1eec67a758137c1"
    "6ed3ce98aabc403099e70048384e4131778cc0d2b61e864b9cfb45704e4e6b5da6cdd7124c609fbf96f59bc6165ae73991ceaf27caba6a67"
    "2c8a18467fa0d4d179e7c8c492a243405ffb7df4d1df647460fcdef89b844b859d1067a72c11a2d791aba8d2af1378ddf2128fb267883ea8"
    "fbe2b19b102652678e86ee3cd70a1cd65376c190c59895bbd0ffb8796267c9e2c130779ba0e8bd17ecf985c1b196abaadc6e5a74c72d290d"
    "7ea0ab737b7f7eec20b610db823dd71dec2d9cb6852cf4f681afee3585804bac85d24de60bd827d8a1ee8f4edb3acdb2b707fd8a4c94dad5"
    "f455a8870dc09b415b611c1947aa1ebc44e7eedbbf62caf906b90f7d4c4cbfddd7c01f997aa86602cf145f5959494593131a52a595d9ce58"
    "8f9ae575b724c915f4fe68d76740890a780ce0bbd43949877e8f22ca5fd4bfdf6e02685cba12e25662360282c0b4eae92241af2a69bb7c49"
    "e1a994a3bd7dadf3730cea4c0bd27edce796c4727c7ec3f4cc709e4f99b1d7604b5f1f71d336f226dea2f4d03bdfda9cf9808f61dfbdad17"
    "2e5c76d5fed1338888e77106c2953b97ad51aa112d0012180b3c3bd373d8f13ffe51b37d8198142e26b2e02964c6f455810b0590e765a11d"
    "e9d3b779bfa207a72474c90396d46a7d6309"
)


def test_its_content_is_as_specified() -> None:
    assert run_notice.encode(NOTICE) == CONTENT
    assert run_notice.decode(CONTENT) == NOTICE


def test_a_sealed_one_opens_for_ever() -> None:
    assert run_notice.RECORD.open(Hidden(bytes(32)), "5" * 32, "", SEALED) == CONTENT
    assert run_notice.RECORD.open(Hidden(bytes(32)), "5" * 32, "", SEALED_1) == CONTENT_1
    assert run_notice.decode(CONTENT_1) == dataclasses.replace(NOTICE, stages=())


def test_its_length_tells_nothing() -> None:
    lengths = {len(run_notice.encode(NOTICE.at(done, 10**9, BEGAN))) for done in (0, 10**5, 10**9)}
    assert lengths == {512}


@pytest.mark.parametrize("count", [1, None])
def test_a_field_of_another_kind_is_refused(count: int | None) -> None:
    notice = dataclasses.replace(NOTICE, done=count, total=count)
    fields = orjson.loads(run_notice.encode(notice))
    for path in paths(fields):
        for nasty in NASTY:
            content = orjson.dumps(exchanged(fields, path, nasty))
            try:
                assert run_notice.encode(run_notice.decode(content)).rstrip() == content
            except BrokenError:
                continue


@pytest.mark.parametrize("content", [b"", b"{}", b"[]", b"\xff", CONTENT.replace(b"]}", b'],"more":1}'), b"[" * 8000])
def test_what_is_no_notice_is_refused(content: bytes) -> None:
    with pytest.raises(BrokenError):
        run_notice.decode(content)
