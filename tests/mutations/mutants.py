"""Small ways to break the save protocol, the file format and the history. A test must notice each.

A mutant names a symbol and a small edit of it, so that renaming something else does not break the mutant. A test checks that
each edit fits exactly one place.
"""

from __future__ import annotations

from dataclasses import dataclass

from tests.mutations.edits import Body, Both, Decide, Delete, Drop, Edit, Replace, Swap, edited


@dataclass(frozen=True)
class Mutant:
    """One change for the worse.

    Attributes:
        name: What it breaks.
        path: In which file of the package.
        symbol: In which function, method or constant of the file.
        edit: What is changed there.
    """

    name: str
    path: str
    symbol: str
    edit: Edit

    def broken(self, source: str) -> str:
        """Return the source of the file with the change in it."""
        return edited(source, self.symbol, self.edit)


MUTANTS: list[Mutant] = [
    # The save protocol
    Mutant("a file is not synced", "_filesystem/files.py", "write_new", Delete("sync(descriptor)")),
    Mutant(
        "a large version's name is not synced",
        "backends/local/backend.py",
        "LocalBackend._append_large",
        Delete("files.sync(folder)", at=1, of=2),
    ),
    Mutant(
        "a large version appears above one whose name is not durable",
        "backends/local/backend.py",
        "LocalBackend._append_large",
        Delete("files.sync(folder)", at=0, of=2),
    ),
    Mutant(
        "the directory is synced before the link",
        "backends/local/backend.py",
        "LocalBackend._append_large",
        Swap("files.publish"),
    ),
    Mutant("a shared directory is taken for a disk", "backends/local/shared.py", "is_shared", Body("return False")),
    Mutant("a pending file is not synced", "backends/local/pending.py", "publish", Delete("sync(descriptor)")),
    Mutant("a pending name is not synced", "backends/local/pending.py", "publish", Delete("sync(folder)")),
    Mutant(
        "the file of another writer is taken for the own",
        "backends/local/pending.py",
        "publish",
        Decide("samestat", outcome=False),
    ),
    Mutant(
        "what a killed writer left is written over",
        "backends/local/backend.py",
        "LocalBackend.append_next",
        Decide("pending.newest(folder)[0] < version", outcome=True),
    ),
    Mutant(
        "a save that failed leaves its pending file",
        "backends/local/pending.py",
        "publish",
        Delete("files.remove(name, folder)"),
    ),
    Mutant(
        "a pending file is not made durable", "backends/local/pending.py", "_take_over", Delete("files.sync(file.descriptor)")
    ),
    Mutant("a version is adopted above a pending one", "backends/local/pending.py", "_take_over", Delete("files.sync(folder)")),
    Mutant(
        "a deleted version is adopted",
        "backends/local/pending.py",
        "adopt",
        Replace("(version_pending(name) or 0) > newest", "True"),
    ),
    Mutant(
        "any number of planted files is adopted",
        "backends/local/pending.py",
        "adopt",
        Replace("above[:_MOST_ADOPTED]", "above"),
    ),
    Mutant(
        "a torn file is adopted",
        "backends/local/pending.py",
        "_is_whole",
        Replace("_hashlib().sha256(file.read(file.size)).hexdigest() == match[2]", "True"),
    ),
    Mutant(
        "a pending version is not looked for when the folder has changed",
        "backends/local/backend.py",
        "LocalBackend._is_still_the_newest",
        Decide("found.changed == session.changed", outcome=True),
    ),
    Mutant("a replaced version comes back", "backends/local/backend.py", "LocalBackend.replace", Delete("pending.retire")),
    Mutant(
        "a version set aside comes back",
        "backends/local/maintenance.py",
        "LocalMaintenance.quarantine",
        Delete("pending.retire"),
    ),
    Mutant(
        "a whole pending version is removed as a leftover",
        "backends/local/maintenance.py",
        "LocalMaintenance.remove",
        Replace("not pending.is_whole(name, folder)", "True"),
    ),
    Mutant(
        "a taken number is overwritten",
        "_filesystem/files.py",
        "publish",
        Replace(
            "link(temporary, name, directory)",
            "os.rename(temporary, name, src_dir_fd=directory, dst_dir_fd=directory)",
        ),
    ),
    Mutant(
        "a short write is taken for a whole one",
        "_filesystem/files.py",
        "write_new",
        Decide("done < length", outcome=False),
    ),
    Mutant(
        "a short read is taken for a whole one",
        "_filesystem/files.py",
        "OpenFile.read",
        Decide("len(piece) == length", outcome=True),
    ),
    Mutant(
        "a failed write leaves its file",
        "backends/local/backend.py",
        "LocalBackend._append_large",
        Delete("files.remove(temporary, folder)", at=1, of=2),
    ),
    Mutant("modes are left to the umask", "_filesystem/files.py", "write_new", Delete("fchmod")),
    Mutant("links are followed in reading", "_filesystem/files.py", "READ", Drop("os.O_NOFOLLOW")),
    Mutant("a FIFO is waited for", "_filesystem/files.py", "READ", Drop("os.O_NONBLOCK")),
    Mutant("what is not a regular file is read", "_filesystem/files.py", "OpenFile.__init__", Decide("S_ISREG", outcome=False)),
    Mutant(
        "the folder of damaged files is not durable",
        "backends/local/maintenance.py",
        "move_to_damaged",
        Delete("sync_directory(root)"),
    ),
    Mutant(
        "the store's directory is not durable",
        "backends/local/folders.py",
        "make_store_directory",
        Delete("_sync_names_up_to"),
    ),
    Mutant(
        "names made by others are not synced", "backends/local/backend.py", "LocalBackend._prepare", Delete("sync_stage_names")
    ),
    Mutant(
        "a long name is not written down", "backends/local/backend.py", "LocalBackend._prepare", Delete("name_stage_directory")
    ),
    Mutant(
        "a version is replaced without a sync",
        "backends/local/backend.py",
        "LocalBackend.replace",
        Replace(
            "files.write_new(temporary, folder, make_pieces(), durable=True)",
            "files.write_new(temporary, folder, make_pieces(), durable=False)",
        ),
    ),
    Mutant(
        "a head is not durable before a deletion",
        "backends/local/backend.py",
        "LocalBackend.delete",
        Delete("sync_directory(self.location)"),
    ),
    Mutant("a reader is shown what is not durable", "_store/history.py", "History.learn", Decide("not durable", outcome=False)),
    Mutant(
        "the newest version is looked for one too far",
        "backends/local/head.py",
        "follow",
        Replace("version_name(number + 1)", "version_name(number + 2)"),
    ),
    Mutant(
        "a head that was exchanged is taken for the one that it was",
        "backends/local/backend.py",
        "LocalBackend._is_still_the_newest",
        Replace("(status.st_dev, status.st_ino) == found.head", "True"),
    ),
    Mutant(
        "what follows the newest version is not looked for",
        "backends/local/backend.py",
        "LocalBackend._is_still_the_newest",
        Replace("layout.version_name(found.number + 1)", "layout.version_name(found.number + 2)"),
    ),
    Mutant(
        "a look goes on from a version below a gap",
        "backends/local/head.py",
        "follow",
        Decide("known.head == _identity(head)", outcome=True),
    ),
    Mutant(
        "any file counts as the head",
        "backends/local/head.py",
        "follow",
        Decide("version.st_ino == head.st_ino", outcome=True),
    ),
    Mutant(
        "any head counts as the version that it should be",
        "backends/local/head.py",
        "is_same",
        Decide("_is_link", outcome=True),
    ),
    Mutant(
        "a head that was put back hides a newer version from a running process",
        "backends/local/backend.py",
        "LocalBackend._may_follow",
        Body("return True"),
    ),
    Mutant(
        "a session believes what it has changed since",
        "backends/local/backend.py",
        "LocalBackend.append_next",
        Delete("session.found = self._found[stage]"),
    ),
    Mutant(
        "any folder at the path counts as the stage's",
        "backends/local/session.py",
        "LocalSession.__enter__",
        Decide("(status.st_dev, status.st_ino) == self._known", outcome=True),
    ),
    Mutant(
        "a record is written whoever changed it",
        "backends/local/backend.py",
        "LocalBackend._write_record",
        Decide("self._is_still", outcome=False),
    ),
    Mutant("two make a keyring each", "backends/local/backend.py", "_put_record", Decide("not first", outcome=True)),
    # Locks
    Mutant("the lock is ignored", "backends/local/lock.py", "FileLock._take", Decide("lock_descriptor", outcome=False)),
    Mutant("a lock whose file was kept is ignored", "backends/local/lock.py", "FileLock.__enter__", Delete("fcntl.flock")),
    Mutant(
        "a lock whose file was kept counts though the file is gone",
        "backends/local/lock.py",
        "FileLock.__enter__",
        Decide("named.st_ino == kept.status.st_ino", outcome=True),
    ),
    Mutant(
        "a lock on a file that is gone counts",
        "backends/local/lock.py",
        "FileLock._named",
        Replace("os.path.samestat(self._file.status, named)", "True"),
    ),
    Mutant("a lock's close fails its save", "backends/local/session.py", "LocalSession.end", Delete("let_go")),
    Mutant("a child keeps its parent's lock", "backends/local/lock.py", "_close_inherited", Delete("file.close()")),
    Mutant("a lock is not noted for forks", "backends/local/lock.py", "open_into", Delete("_files.add")),
    Mutant(
        "who holds the lock is not said",
        "backends/local/lock.py",
        "FileLock._timed_out",
        Replace("_holder(self._file.status)", "''"),
    ),
    Mutant(
        "what a killed writer left stays",
        "backends/local/backend.py",
        "LocalBackend._prepare",
        Decide("stage not in self._tidied", outcome=False),
    ),
    Mutant("a link in the place of a lock is followed", "backends/local/lock.py", "_FLAGS", Drop("os.O_NOFOLLOW")),
    # The envelope
    Mutant(
        "the metadata is not bound to its stage",
        "_format/checkpoint_file.py",
        "",
        Both(
            Replace("seal.context(line, place.stage, place.version)", "seal.context(line, place.version)"),
            Replace("seal.context(header.line, stage, version)", "seal.context(header.line, version)"),
        ),
    ),
    Mutant(
        "the metadata is not bound to its header",
        "_format/checkpoint_file.py",
        "",
        Both(Drop("line"), Drop("header.line")),
    ),
    Mutant("the data is not bound to its version's id", "_format/checkpoint_file.py", "", Drop("entry.id", at=None, of=2)),
    Mutant(
        "metadata and data have one context",
        "_format/checkpoint_file.py",
        "",
        Both(Drop("entry.id", at=None, of=2), Replace("_DATA", "_METADATA", at=None, of=3)),
    ),
    Mutant(
        "a context can be read in two ways",
        "_format/seal.py",
        "context",
        Replace("len(encoded).to_bytes(4, 'big') + encoded", "encoded"),
    ),
    Mutant("another version's number is believed", "_format/checkpoint_file.py", "context_of", Decide("header.version", False)),
    Mutant(
        "another store's version is tried", "_store/sealed_store.py", "SealedStore._open", Decide("header.store", outcome=False)
    ),
    Mutant(
        "what is appended to a file is passed over",
        "_store/sealed_store.py",
        "SealedStore._whole",
        Replace(
            "file.size != sealed_format.file_length(header, entry)", "file.size < sealed_format.file_length(header, entry)"
        ),
    ),
    Mutant("metadata of any length is read", "_format/checkpoint_file.py", "parse_header", Decide("MAX_METADATA_BYTES", False)),
    Mutant("the list of slots is not authenticated", "_format/keyring.py", "_authenticated", Delete("seal.unseal")),
    Mutant("a keyring may be spelled in any way", "_format/keyring.py", "Keyring._parse", Drop("keyring.encode() != data")),
    Mutant(
        "a keyring's serial number stays",
        "_format/keyring.py",
        "_resealed",
        Replace("unlocked.keyring.serial + 1", "unlocked.keyring.serial"),
    ),
    Mutant("any cost of a passphrase is accepted", "_format/key_slot.py", "check_cost", Replace("MAX_MEMORY_KIB", "2**40")),
    Mutant("a record is not bound to its stage", "_format/records.py", "RecordFormat.seal", Drop("stage")),
    Mutant(
        "NaN becomes null",
        "_format/payload.py",
        "_dumps",
        Decide("suspects and b'null' in encoded", False),
    ),
    Mutant(
        "NaN among what looks like it becomes null", "_format/payload.py", "_inside", Decide("is_suspect(_pack(part))", False)
    ),
    Mutant("a dict that looks like a form is read as one", "_format/values.py", "needs_form", Replace("tag_of(value)", "None")),
    Mutant("a form may be written in other ways", "_format/values.py", "_read", Decide("not is_valid", False)),
    Mutant("a fold is lost", "_format/values.py", "_moment", Replace("value.fold", "0", at=None, of=2)),
    Mutant(
        "a zone is opened by any key",
        "_format/values.py",
        "_zone_named",
        Replace("is_there or (is_valid and key in zoneinfo.available_timezones())", "True"),
    ),
    Mutant("equal elements of a set become one", "_format/values.py", "_set_of", Decide("len(found) == len(values)", True)),
    Mutant(
        "a set of one hash takes as long as it takes",
        "_format/values.py",
        "_collide",
        Replace("_MAX_COLLISIONS", "10**9", at=None, of=2),
    ),
    Mutant(
        "NaN in a long message becomes null",
        "_format/payload.py",
        "_may_hold_not_finite",
        Decide("packed[position - 1] == _FLOAT and packed[position + 1:position + 2] >= b'\\xf0'", False),
    ),
    Mutant("only the first rows are looked at", "_format/payload.py", "_parts", Replace("range(0, len(each), _SLICE)", "[0]")),
    Mutant("what was encoded ahead is not looked at", "_store/sealed_store.py", "_checked", Delete("check()")),
    Mutant(
        "each JSON that was encoded ahead passes", "_format/payload.py", "Check.__call__", Delete("raise InexactError(self)")
    ),
    Mutant(
        "what was encoded before a lock was waited for is only checked",
        "_operations/save.py",
        "_append_after_look",
        Decide("draft.check is not None and draft.check.is_late()", False),
    ),
    Mutant("a tuple becomes a list", "_format/payload.py", "_pack", Drop("ormsgpack.OPT_PASSTHROUGH_TUPLE")),
    # History
    Mutant(
        "a number is left out",
        "_operations/save.py",
        "place_after",
        Replace("max(tip.version, tip.used) + 1", "max(tip.version, tip.used) + 2"),
    ),
    Mutant("a version does not name the one before it", "_operations/save.py", "place_after", Replace("tip.id", "None")),
    Mutant(
        "a wrong clock is carried on",
        "_operations/save.py",
        "place_after",
        Replace("datetime.now(UTC)", "max(datetime.now(UTC), tip.created_at or datetime.min.replace(tzinfo=UTC))"),
    ),
    Mutant(
        "an expected version may be older",
        "_operations/save.py",
        "_append_after_look",
        Replace("tip.version != expected", "tip.version < expected"),
    ),
    Mutant(
        "an expected version may be followed by another",
        "_operations/save.py",
        "_append_after_look",
        Drop("exactly=expected is not None"),
    ),
    Mutant(
        "a version stays under a number that was deleted meanwhile",
        "_operations/save.py",
        "append_entry",
        Decide("lock_excludes", outcome=False),
    ),
    Mutant(
        "a copy is acknowledged whose attachments were deleted",
        "_operations/save.py",
        "append",
        Decide("lock_excludes", outcome=False),
    ),
    Mutant(
        "two deletions record a version twice",
        "_operations/delete.py",
        "_record_ranges",
        Replace("_unrecorded(gaps, wanted)", "wanted"),
    ),
    Mutant(
        "a version is deleted that was tagged meanwhile",
        "_operations/delete.py",
        "drop",
        Decide("lock_excludes", outcome=False),
    ),
    Mutant("a deleted version keeps its tag", "_operations/tag.py", "_tag", Decide("lock_excludes", outcome=False)),
    Mutant(
        "an attachment is removed whose version was saved meanwhile",
        "_operations/unused_attachments.py",
        "remove",
        Replace("find_among(store, stage, written, session)", "find_among(store, stage, candidates, session)"),
    ),
    Mutant(
        "the digest of a segment is never compared",
        "_store/attachments.py",
        "read_segment_into",
        Replace("None if is_under_active_key else record.digests[index]", "None"),
    ),
    Mutant(
        "the keyring is not looked at after a segment was read without its digest",
        "_store/attachments.py",
        "read_segment_into",
        Replace("store.keyring.refresh().active[0]", "store.keyring.active[0]"),
    ),
    Mutant(
        "a record says itself under which key its attachment was written",
        "_format/attachment.py",
        "sealed_under",
        Replace("each.written_under == key_id", "True"),
    ),
    Mutant(
        "attachments of another form count as none",
        "_format/attachment.py",
        "take_records",
        Delete("raise ValueError(_NOT_RECORDS)"),
    ),
    Mutant(
        "an older digest is compared as if it were made with the hash of today",
        "_format/attachment.py",
        "_new_hash",
        Decide("name == 'sha256'", outcome=False),
    ),
    Mutant(
        "a content of another length is written to a file",
        "_format/seal.py",
        "unseal_slices",
        Decide("left != len(rest)", outcome=False),
    ),
    Mutant(
        "an attachment that was written to a file is not synced", "_filesystem/files.py", "new_file", Delete("sync(descriptor)")
    ),
    Mutant(
        "an attached file that changes while it is read is taken",
        "_operations/attach.py",
        "_FileSource._check",
        Delete("raise PayloadError"),
    ),
    Mutant(
        "an attached file that ends early is filled up",
        "_operations/attach.py",
        "_FileSource._slices",
        Replace("filled < len(part)", "False", at=1, of=2),
    ),
    Mutant("a text for people is of any length", "_format/attachment.py", "shortened", Body("return detail")),
    Mutant(
        "a frame that is compressed as in a draft of the format is decompressed",
        "_format/arrow_stream.py",
        "_body_length",
        Decide("!= _VERSION_5", outcome=False),
    ),
    Mutant(
        "a compressed frame is decompressed",
        "_format/arrow_stream.py",
        "_body_length",
        Decide("_COMPRESSION", outcome=False),
    ),
    Mutant(
        "contents that belong to no array are passed over",
        "_format/embedded.py",
        "Reader.check_end",
        Decide("self._stored is not None and self._at != self._stored.size", outcome=False),
    ),
    Mutant(
        "a version is the result of an array whatever is in it",
        "stages/runner.py",
        "Runner.complete",
        Replace("result.data if result.embedded is None else result.embedded.data()", "result.data"),
    ),
    Mutant("an update writes over what came in between", "_operations/save.py", "update", Drop("exactly=True")),
    Mutant("a lost answer is not recognised", "_operations/save.py", "append_entry", Decide("is_own", outcome=False)),
    Mutant(
        "an older directory is served",
        "_store/history.py",
        "History.look",
        Decide("number < seen.version", outcome=False, of=3),
    ),
    Mutant(
        "another version of the same number is served",
        "_store/history.py",
        "History.leads_back",
        Replace("entry.id == seen.id", "True"),
    ),
    Mutant(
        "a version that was deleted and came back interrupts the history",
        "_store/history.py",
        "History.leads_back",
        Decide("below.version in gaps", outcome=False),
    ),
    Mutant(
        "a note of a folder that has changed is believed",
        "backends/local/folder_note.py",
        "decode",
        Drop("tuple(state) != stamp(status)"),
    ),
    Mutant("a note outlives the system", "backends/local/folder_note.py", "decode", Drop("started != _started()")),
    Mutant(
        "a note is made where a change might not show",
        "backends/local/backend.py",
        "LocalBackend._state",
        Decide("self._times.is_settled", outcome=True),
    ),
    Mutant(
        "what someone else has changed before a save counts as the save's own",
        "backends/local/backend.py",
        "LocalBackend.append",
        Replace("found.state == stamp(session.present_status())", "True"),
    ),
    Mutant(
        "a note is made beside what a killed writer left",
        "backends/local/pending.py",
        "all_below",
        Replace("newest + 1", "newest"),
    ),
    Mutant(
        "relaxed saves lead back over a version of another history",
        "_store/history.py",
        "History.leads_back",
        Replace("ancestor.id != below.id", "False"),
    ),
    Mutant(
        "what was seen is forgotten by an older view",
        "_store/last_seen.py",
        "_Folder.write",
        Decide("even_if_older", outcome=True),
    ),
    Mutant("a time of just now is believed", "_filesystem/file_times.py", "FileTimes.is_settled", Body("return True")),
    Mutant(
        "the folder of what was verified is not looked at",
        "backends/local/version_file.py",
        "FileMark.holds",
        Replace("stamp(os.lstat(self.folder)) == self.folder_stamp", "True"),
    ),
    Mutant(
        "the folder of what is read again is not looked at",
        "backends/local/version_file.py",
        "FileMark.read",
        Replace("stamp(os.lstat(self.folder)) != self.folder_stamp", "False"),
    ),
    Mutant(
        "the metadata of what is read again is not compared",
        "_operations/load.py",
        "_again",
        Decide("content.startswith", outcome=False),
    ),
    Mutant(
        "another version is read where one was verified",
        "_operations/load.py",
        "_opened_as_whole",
        Decide("verified.id", outcome=False),
    ),
    Mutant(
        "the keyring is not looked at where a version was verified",
        "backends/local/version_file.py",
        "FileMark.holds",
        Replace("stamp(os.lstat(self.keyring)) == self.keyring_stamp", "True"),
    ),
    Mutant(
        "the first look does not compare the version with the one that was seen",
        "_store/first_look.py",
        "first_look",
        Decide("entry.id != version_id", outcome=False),
    ),
    Mutant(
        "the first look passes over a version that only the head holds",
        "backends/local/backend.py",
        "LocalBackend.read_newest",
        Decide("not is_head", outcome=False),
    ),
    Mutant(
        "the first look passes over other versions in the folder",
        "backends/local/backend.py",
        "LocalBackend.read_newest",
        Decide("head.is_newest", outcome=False),
    ),
    Mutant(
        "the first look passes over a record of deletions",
        "backends/local/head.py",
        "is_newest",
        Replace("each == GAPS", "False"),
    ),
    Mutant(
        "the first look passes over a pending version",
        "backends/local/head.py",
        "is_newest",
        Replace("each[:12] > number", "False"),
    ),
    Mutant(
        "the first look does not ask which record of deletions was seen",
        "_store/last_seen.py",
        "LastSeen.recall_at_first",
        Replace('os.lstat(f"{path}.gaps")', 'os.lstat(f"{path}.gaps.none")'),
    ),
    Mutant(
        "what was seen in a copy does not count for what was verified",
        "_store/last_seen.py",
        "LastSeen.is_unchanged",
        Body("return True"),
    ),
    Mutant(
        "a save goes on whatever has changed in the folder",
        "backends/local/backend.py",
        "LocalBackend.session_after",
        Replace("stamp(os.lstat(session.path)) == appended[0]", "True"),
    ),
    Mutant(
        "a save goes on whatever was seen in a copy",
        "_operations/save.py",
        "_append_next",
        Replace("store.last_seen.is_still(stage, tip.version, tip.id)", "True"),
    ),
    Mutant(
        "a save goes on whatever has changed in the keyring",
        "backends/local/backend.py",
        "LocalBackend.session_after",
        Replace("stamp(os.lstat(self._keyring)) == keyring.stamp", "True"),
    ),
    Mutant(
        "a save in turn goes on whatever has changed",
        "backends/local/session.py",
        "LocalSession.is_in",
        Body("return True"),
    ),
    Mutant(
        "a save in turn does not look at the version that it builds on",
        "backends/local/session.py",
        "LocalSession.is_in",
        Replace(
            "state == _STATE % (*folder, *stamp(os.lstat(version_name(version), dir_fd=self.folder)))",
            "state.startswith(b'%d %d %d %d %d ' % folder)",
        ),
    ),
    Mutant(
        "a process leaves its state without knowing all that is there",
        "backends/local/session.py",
        "LocalSession.state_left",
        Replace("found.state is None", "False"),
    ),
    Mutant(
        "a save in turn goes on whatever stands behind the line",
        "_store/last_seen.py",
        "LastSeen.left",
        Replace("left[:32] != version_id", "False"),
    ),
    Mutant(
        "a save in turn goes on after a first deletion",
        "_operations/save.py",
        "_append_next",
        Replace("gaps is not None or left is not None", "gaps is not None"),
    ),
    Mutant(
        "a save that goes on does not look at the keyring again",
        "_operations/save.py",
        "_is_appended",
        Decide("is keyring", outcome=True),
    ),
    Mutant(
        "a save goes on whatever has changed in the record of deletions",
        "_operations/save.py",
        "_append_next",
        Replace(
            "gaps is not backend.read_record('gaps', stage, limit=MAX_GAPS_BYTES, known=gaps, session=session)",
            "False",
        ),
    ),
    Mutant(
        "a save goes on whatever number is expected",
        "_operations/save.py",
        "save",
        Replace("expected is None and draft.check is None", "draft.check is None"),
    ),
    Mutant(
        "a save goes on with data of more than one piece",
        "_operations/save.py",
        "_append_next",
        Drop("len(draft.data) > SLICE_BYTES"),
    ),
    Mutant(
        "a save that goes on writes down nothing of what was seen",
        "_operations/save.py",
        "_append_next",
        Delete("store.last_seen.write"),
    ),
    Mutant(
        "a save that goes on prunes nothing",
        "_operations/save.py",
        "_append_next",
        Delete("store.after_append("),
    ),
    Mutant(
        "a save goes on whatever line stands in the place of the one that it has open",
        "_store/last_seen.py",
        "LastSeen._kept_line",
        Replace("line if is_there else b''", "line"),
    ),
    Mutant(
        "the first look takes any version for the newest",
        "backends/local/head.py",
        "is_newest",
        Replace("number == f'{version:012d}'", "True"),
    ),
    Mutant(
        "the first look takes a cleared stage for a completed one",
        "_operations/load.py",
        "load_newest",
        Replace("looked[1].entry.status == 'completed'", "True"),
    ),
    Mutant(
        "the first look verifies a cleared stage as completed",
        "_store/first_look.py",
        "first_look",
        Replace("entry.status == 'completed'", "True"),
    ),
    Mutant(
        "the first look does not follow the keyring",
        "_store/first_look.py",
        "first_look",
        Replace("store.refresh_keys()", "store.keyring.current"),
    ),
    Mutant(
        "files are removed before that is written down", "_operations/delete.py", "drop", Swap("record(store, stage, versions")
    ),
    Mutant("a deletion builds on what is not durable", "_operations/delete.py", "drop", Delete("store.flush")),
    Mutant(
        "the newest version can be deleted",
        "_operations/delete.py",
        "delete_versions",
        Decide("version == newest", outcome=False),
    ),
    Mutant(
        "a stage with a delete marker and versions below it is not listed",
        "_store/history.py",
        "History.is_deleted",
        Replace("self.before(stage, number, session) is None", "True"),
    ),
    Mutant(
        "a damaged version counts as done",
        "_operations/load.py",
        "is_completed",
        Replace("False", "True", at=1, of=2),
    ),
    Mutant("a restore does not say from what", "_operations/restore.py", "_copy", Drop("restored_from=loaded.version")),
    Mutant(
        "a pipeline is restored without being read first",
        "_operations/restore.py",
        "restore_pipeline",
        Delete("raise step.error"),
    ),
    # Keys
    Mutant(
        "a writer does not look at the keyring again",
        "_store/sealed_store.py",
        "SealedStore.append",
        Replace("self.refresh_keys(session)", "self.keyring.current"),
    ),
    Mutant("a rotation does not wait for writers", "_operations/rotate_key.py", "_rotate_once", Delete("wait_for_writers")),
    Mutant(
        "a rotation leaves records under the old key",
        "_operations/rotate_key.py",
        "_Resealing._stage",
        Delete("self._records(stage, session)"),
    ),
    Mutant(
        "a rotation finishes another's",
        "_operations/rotate_key.py",
        "_rotate_once.finish",
        Drop("unlocked.keyring.active == ours"),
    ),
    Mutant(
        "an older keyring is served", "_store/open_keyring.py", "OpenKeyring._roll_back", Decide("_on_rollback", outcome=False)
    ),
    Mutant(
        "a key that was given up is followed",
        "_format/keyring.py",
        "UnlockedKeyring.why_it_does_not_succeed",
        Decide("_signatures().lead", outcome=True),
    ),
    Mutant("a handover is not verified", "_format/handover_signatures.py", "lead", Delete(".verify(")),
    Mutant(
        "a handover leads to any key", "_format/handover_signatures.py", "lead", Replace("(key_id, public) == active", "True")
    ),
    Mutant("a handover is good for any store", "_format/handover_signatures.py", "_message", Drop("store")),
    Mutant("a serial number may jump", "_format/keyring.py", "_problem_of_serial", Replace("serial - seen.serial", "0")),
    Mutant(
        "another store is followed where one was seen",
        "_store/open_keyring.py",
        "OpenKeyring._check_store",
        Delete("self._roll_back", at=0, of=2),
    ),
    Mutant(
        "a link to another store is followed where a directory was seen",
        "_store/open_keyring.py",
        "OpenKeyring._check_store",
        Delete("self._roll_back", at=1, of=2),
    ),
    Mutant(
        "an emptied store is begun again in silence",
        "_store/open_keyring.py",
        "OpenKeyring._begin",
        Delete("_LOG.warning("),
    ),
    Mutant(
        "a new store is begun in an emptied place before it is remembered",
        "_store/open_keyring.py",
        "OpenKeyring._begin",
        Delete("self._remember_here(unlocked.keyring.store)", of=2),
    ),
    Mutant(
        "what appears where a new store begins is taken for it",
        "_store/open_keyring.py",
        "OpenKeyring._begin",
        Delete("self._remember_here(before)"),
    ),
    Mutant(
        "what was only warned of is accepted",
        "_store/open_keyring.py",
        "OpenKeyring.change",
        Decide("self._seen.digest", outcome=True),
    ),
    Mutant(
        "all slots together may cost anything", "_format/key_slot.py", "check_costs", Decide("MAX_TOTAL_COST", outcome=False)
    ),
    Mutant(
        "a costly slot is tried first",
        "_format/keyring.py",
        "_by_cost",
        Replace("slot.cost.memory_kib * slot.cost.passes", "-1"),
    ),
    Mutant("a key file of another user is taken", "_store/key_sources.py", "_check_owner", Decide("is_foreign", outcome=False)),
    Mutant(
        "a key file that others may change is taken",
        "_store/key_sources.py",
        "_check_owner",
        Decide("others_may_write", outcome=False),
    ),
    Mutant(
        "memories of another user are believed",
        "_store/last_seen.py",
        "_make_private",
        Decide("is_foreign(status)", outcome=False),
    ),
    Mutant(
        "a rotation drops the key of what is missing", "_operations/rotate_key.py", "_Resealing._stage", Delete("self._missing")
    ),
    Mutant(
        "a rotation drops the key of a stage that was hidden",
        "_store/store.py",
        "Store.all_stages",
        Replace("self.last_seen.stages()", "()"),
    ),
    Mutant("a rotation looks only once", "_operations/rotate_key.py", "_rotate_once", Delete("resealing.run()", at=1, of=2)),
    Mutant("a key shows in a frame", "_format/hidden.py", "Hidden.__repr__", Body("return repr(self.raw)")),
    Mutant("a found key file is not made durable", "_store/key_sources.py", "make_durable", Delete("_sync(place)")),
    # Bundles
    Mutant("a bundle's body is not bound to its header", "_format/bundle.py", "_context", Drop("header.line")),
    Mutant("what follows the end of a bundle is passed over", "_format/bundle_parts.py", "_end", Decide("at_end", False)),
    Mutant(
        "a bundle may hold a stage twice",
        "_format/bundle_parts.py",
        "decode",
        Replace("stage.name <= name", "stage.name < name"),
    ),
    Mutant("metadata in a bundle may be spelled in any way", "_format/bundle_parts.py", "_entry", Drop("written != plain")),
    Mutant(
        "a history in a bundle may be another one's",
        "_format/bundle_chain.py",
        "Chain.add",
        Decide("entry.previous not in self._recent", False),
    ),
    Mutant("another history is continued", "_operations/import_bundle.py", "_is_one_history", Drop("here == there")),
    Mutant(
        "a version beyond a gap is hidden by the head below it",
        "backends/local/backend.py",
        "LocalBackend._prepare",
        Delete("files.remove(self._head(stage))"),
    ),
    Mutant(
        "a bundle has tags of versions that it does not hold", "_format/bundle_parts.py", "_tags", Decide("chain.has", False)
    ),
    Mutant(
        "tags in a bundle may be spelled in any way",
        "_format/bundle_parts.py",
        "_tags",
        Drop("orjson.dumps(tags.rows_of(named)) != plain"),
    ),
    Mutant(
        "an import moves a tag",
        "_operations/tag.py",
        "add_locked",
        Replace("{**tags.named, **added}", "{**tags.named, **brought}"),
    ),
    Mutant(
        "an import tags whatever has the number",
        "_operations/tag.py",
        "_is_here",
        Drop("store.entry(stage, tagged.version).id == tagged.id"),
    ),
    Mutant("an import believes older tags", "_operations/tag.py", "add_locked", Decide("turned_back", False)),
    Mutant(
        "an import that was killed before its tags never adds them",
        "_operations/import_bundle.py",
        "Arrival.brings_something",
        Drop("self.tags_added"),
    ),
    Mutant(
        "a number that counts as lost is given out again",
        "_store/history.py",
        "History.tip",
        Decide("gap.last > max", outcome=False),
    ),
    Mutant(
        "a newest version that was taken away is passed over",
        "_store/history.py",
        "History._check_deletions",
        Decide("gap is not None and gap.last >= newest.number", outcome=False),
    ),
    Mutant(
        "the acceptance of a rollback does not record what is lost",
        "_operations/accept_rollback.py",
        "_close_the_gap",
        Delete("store.write_gaps"),
    ),
    Mutant(
        "a record of deletions outgrows what is read back",
        "_store/sealed_store.py",
        "SealedStore.check_gaps",
        Decide("max_bytes", outcome=False),
    ),
    Mutant(
        "without a head, what was remembered hides what is beyond a gap",
        "backends/local/head.py",
        "follow",
        Replace("None", "known", at=3, of=5),
    ),
    Mutant(
        "a stage that was rolled back is imported into",
        "_operations/import_bundle.py",
        "_tip",
        Decide("tip.used > tip.version", outcome=False),
    ),
    Mutant(
        "a bundle takes the place of a file that was made meanwhile",
        "_operations/bundle_file.py",
        "_write",
        Decide("overwrite", True),
    ),
    Mutant("a bundle tells the keys of attachments", "_format/bundle_parts.py", "_without_keys", Body("return entry")),
    Mutant(
        "a stage of which only the head is left is not listed",
        "backends/local/folders.py",
        "head_names",
        Body("return set()"),
    ),
    Mutant(
        "a rotation drops the key of a stage whose name is lost",
        "backends/local/folders.py",
        "find_nameless",
        Body("return []"),
    ),
    Mutant("an interrupted end of a loop keeps its lock", "stages/stopping.py", "_take", Decide("in ends", outcome=False)),
    # Upkeep
    Mutant("a repair moves what can't be read just now", "_operations/verify.py", "_state_of_error", Body("return 'damaged'")),
    Mutant(
        "a repaired newest version brings back the one before",
        "_operations/repair.py",
        "_damaged",
        Delete("append(store, stage"),
    ),
    Mutant(
        "a missing version is not reported", "_operations/verify.py", "_missing", Decide("first > reached + 1", outcome=False)
    ),
    Mutant("two histories are not told apart", "_operations/verify.py", "_Chain._continues", Body("return True")),
    # Stages and long loops
    Mutant("a state is saved before its item is done", "stages/loop.py", "Loop.__iter__", Swap("yield item")),
    Mutant("a loop that fails saves nothing", "stages/loop.py", "Loop._leave", Delete("self._progress.save()")),
    Mutant("a cancelled save goes on by itself", "stages/threads.py", "in_thread", Decide("call.cancel()", outcome=True)),
    Mutant("a cancelled save is made all the same", "stages/threads.py", "in_thread", Decide("call.cancel()", outcome=False)),
    Mutant(
        "an awaited save does not wait for its turn", "aio.py", "AsyncCheckpointManager._turn", Body("return asyncio.Lock()")
    ),
    Mutant("two loops run at once", "stages/loop.py", "Loop.__enter__", Delete("self._acquire()")),
    Mutant("a loop that waited does not look again", "stages/loop.py", "Loop.__enter__", Delete("self._search")),
    Mutant("a loop takes the progress of another call", "stages/loop.py", "Loop._join", Delete("within=around.note")),
    Mutant("any version is deleted as progress", "stages/runner.py", "Runner._is_progress", Drop("entry.status == 'progress'")),
    Mutant("a changed object passes for the stored result", "stages/results.py", "_is_unchanged", Body("return True")),
    Mutant(
        "other data of the same call makes nothing stale",
        "_operations/lineage.py",
        "_Lineage._now",
        Body("return used.version"),
    ),
    Mutant("a changed constant is not seen", "stages/code.py", "_Walk._add_constants", Body("pass")),
    Mutant("progress stays beside the result", "stages/runner.py", "Runner.complete", Delete("self.delete_progress")),
    Mutant(
        "only one progress version is kept",
        "stages/progress.py",
        "ProgressLog.save",
        Replace("(self.kept[:-2], self.kept[-2:])", "(self.kept[:-1], self.kept[-1:])"),
    ),
    Mutant(
        "saving may take all the time",
        "stages/pacing.py",
        "Pace.saved",
        Replace("max(self.every_seconds, took / _SAVING_SHARE)", "self.every_seconds"),
    ),
    Mutant(
        "what can't be read is passed over in the search",
        "stages/lookup.py",
        "Lookup._read",
        Replace("None if gap is None or gap.reason == 'set aside' else gap", "gap or Gap(number, number, None, None)"),
    ),
    Mutant("the index does not see a clear", "stages/lookup.py", "Lookup._index", Delete("whole=True")),
    Mutant("any class of a name will do", "stages/fingerprint.py", "_name_of", Decide("found is not kind", outcome=False)),
    Mutant(
        "the order of a dict does not count",
        "stages/fingerprint.py",
        "_compound",
        Replace("list(value.items())", "sorted(value.items())"),
    ),
    Mutant(
        "what an object holds beside its fields does not count",
        "stages/fingerprint.py",
        "_held_by",
        Replace("(*fields, *others)", "fields"),
    ),
    # Tags and retention
    Mutant("a tag protects nothing", "_operations/delete.py", "delete_versions", Decide("tags.of(version)", outcome=False)),
    Mutant("older tags are believed", "_operations/tag.py", "read", Decide("on_rollback", outcome=False)),
    Mutant("a tag follows its number", "_operations/tag.py", "find", Decide("entry.id != tagged.id", outcome=False)),
    Mutant("a tag is moved without being asked", "_operations/tag.py", "_is_new", Decide("not force", outcome=False)),
    Mutant(
        "a rotation leaves tags under the old key", "_operations/rotate_key.py", "_Resealing._seal_tags", Delete("tag.write")
    ),
    Mutant(
        "a deletion of what has a tag is not reported",
        "_operations/verify.py",
        "_without_a_version",
        Replace("gap.reason == 'deleted'", "gap.reason == 'lost'"),
    ),
    Mutant(
        "failures push completed versions out", "retention.py", "_Rule._counts", Drop("self._status in {None, version.status}")
    ),
    Mutant("a period keeps its oldest version", "retention.py", "_Rule.newer", Body("return False, None")),
    Mutant(
        "what was cleared is forgotten",
        "retention.py",
        "HeldVersions.__init__",
        Drop("_Rule('newest cleared', 1, _number, 'cleared')"),
    ),
    Mutant(
        "what others deleted is counted as kept",
        "_operations/auto_prune.py",
        "AutoPrune._follow_gaps",
        Replace("memory.held_versions.held", "()"),
    ),
    Mutant(
        "a save prunes what has a tag",
        "_operations/auto_prune.py",
        "AutoPrune._spare_tagged",
        Replace("free.pop(number)", "free[number]"),
    ),
    Mutant(
        "a save relies on a newest version that nobody has read",
        "_operations/auto_prune.py",
        "AutoPrune._prove",
        Decide("memory.proven", outcome=False),
    ),
    Mutant(
        "a pruning relies on a newest version that nobody has read",
        "_operations/prune.py",
        "_sound_history",
        Delete("store.load"),
    ),
    Mutant(
        "a failed pruning fails the save",
        "_operations/auto_prune.py",
        "AutoPrune.after",
        Decide("isinstance(error, Exception)", outcome=True),
    ),
    Mutant("a killed pruning is never finished", "_operations/prune.py", "_prune", Delete("remove_leftovers")),
]
