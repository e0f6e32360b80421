"""Small ways to break the save protocol, the file format and the history. A test must notice each.

A mutant names a symbol and a small edit of it, so that renaming something else does not break the mutant. A test checks that
each edit fits exactly one place.
"""

from __future__ import annotations

from dataclasses import dataclass

from tests.mutations.edits import Body, Decide, Delete, Drop, Edit, PlaceError, Replace, Swap, edited


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


@dataclass(frozen=True)
class Quoted:
    """A mutant that quotes the code it changes, until that code has settled."""

    name: str
    path: str
    old: str
    new: str

    def broken(self, source: str) -> str:
        """Return the source of the file with the change in it."""
        if source.count(self.old) != 1:
            raise PlaceError(self.old)
        return source.replace(self.old, self.new)


FILES, LOCAL, LOCK = "_filesystem/files.py", "backends/local/backend.py", "backends/local/lock.py"
FINDING = "backends/local/head.py"
UPKEEP, FORMAT, KEYRING = "backends/local/maintenance.py", "_format/checkpoint_file.py", "_format/keyring.py"
HISTORY, WRITING, DELETING = "_store/history.py", "_operations/save.py", "_operations/delete.py"
TAGGING, STANDING, TRIMMING, PRUNING = (
    "_operations/tag.py",
    "retention.py",
    "_operations/auto_prune.py",
    "_operations/prune.py",
)
ROTATING, VAULT, WITNESS = "_operations/rotate_key.py", "_store/store.py", "_store/last_seen.py"
SEARCHING, RUNNING, PARTIAL = "stages/lookup.py", "stages/runner.py", "stages/loop.py"
KEEPING, PACING, FINGERPRINT = "stages/progress.py", "stages/pacing.py", "stages/fingerprint.py"

MUTANTS: list[Mutant | Quoted] = [
    # The save protocol
    Mutant("a file is not synced", "_filesystem/files.py", "write_temporary", Delete("sync(descriptor)")),
    Mutant("a version's name is not synced", "backends/local/backend.py", "LocalBackend.append", Delete("files.sync(folder)")),
    Mutant(
        "the directory is synced before the link", "backends/local/backend.py", "LocalBackend.append", Swap("files.publish")
    ),
    Mutant(
        "a taken number is overwritten",
        "_filesystem/files.py",
        "publish",
        Replace(
            "os.link(temporary, name, src_dir_fd=directory, dst_dir_fd=directory, follow_symlinks=False)",
            "os.rename(temporary, name, src_dir_fd=directory, dst_dir_fd=directory)",
        ),
    ),
    Mutant(
        "a short write is taken for a whole one",
        "_filesystem/files.py",
        "write_temporary",
        Decide("done < length", outcome=False),
    ),
    Mutant(
        "a short read is taken for a whole one",
        "_filesystem/files.py",
        "OpenFile.read",
        Decide("len(piece) == length", outcome=True),
    ),
    Mutant("a failed write leaves its file", "_filesystem/files.py", "write_temporary", Delete("remove(name, directory)")),
    Mutant("modes are left to the umask", "_filesystem/files.py", "write_temporary", Delete("fchmod")),
    Mutant("links are followed in reading", "_filesystem/files.py", "_READ", Drop("os.O_NOFOLLOW")),
    Mutant("a FIFO is waited for", "_filesystem/files.py", "_READ", Drop("os.O_NONBLOCK")),
    Mutant("what is no regular file is read", "_filesystem/files.py", "OpenFile.__init__", Decide("S_ISREG", outcome=False)),
    Mutant(
        "the folder of damaged files is not durable",
        "backends/local/maintenance.py",
        "move_to_damaged",
        Delete("sync_directory(root)"),
    ),
    Mutant(
        "the store's directory is not durable",
        "backends/local/maintenance.py",
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
            "files.write_temporary(folder, make_pieces(), durable=True)",
            "files.write_temporary(folder, make_pieces(), durable=False)",
        ),
    ),
    Mutant(
        "a mark is not made durable",
        "backends/local/backend.py",
        "LocalBackend.delete",
        Delete("sync_directory(self.location)"),
    ),
    Quoted(
        "a reader is shown what is not durable",
        HISTORY,
        "            if not look.marked:\n",
        "            if look.number < 0:\n",
    ),
    Mutant(
        "the newest version is looked for one too far", "backends/local/head.py", "find", Replace("number + 1", "number + 2")
    ),
    Mutant("a far mark is believed", "backends/local/head.py", "find", Decide("known.head == _identity(head)", outcome=True)),
    Mutant(
        "another file is read in the place of a version, as long as it has its mark",
        "backends/local/head.py",
        "find",
        Decide("version.st_ino == head.st_ino", outcome=True),
    ),
    Mutant(
        "any mark counts as that of the version it should be",
        "backends/local/head.py",
        "is_same",
        Decide("samestat", outcome=True),
    ),
    Mutant(
        "a visit believes what it has changed since",
        "backends/local/backend.py",
        "LocalBackend.append",
        Delete("session.found = self._found[stage] = found"),
    ),
    Mutant(
        "a record is written whoever changed it",
        "backends/local/backend.py",
        "LocalBackend.write_record",
        Decide("self._is_still", outcome=False),
    ),
    Mutant("two make a keyring each", "backends/local/maintenance.py", "put_record", Decide("not first", outcome=True)),
    # Locks
    Mutant("the lock is ignored", "backends/local/lock.py", "FileLock.__enter__", Decide("lock_descriptor", outcome=False)),
    Mutant(
        "a lock on a file that is gone counts",
        "backends/local/lock.py",
        "FileLock._named",
        Replace("os.path.samestat(self._status, named)", "True"),
    ),
    Mutant("a child keeps its parent's lock", "backends/local/lock_descriptors.py", "_close_inherited", Delete("file.close()")),
    Mutant(
        "a child frees its parent's lock", "backends/local/lock_descriptors.py", "_close_inherited", Delete("_files.clear()")
    ),
    Mutant(
        "who holds the lock is not said",
        "backends/local/lock.py",
        "FileLock._timed_out",
        Replace("_holder(self._status)", "''"),
    ),
    Mutant(
        "what a killed writer left stays",
        "backends/local/backend.py",
        "LocalBackend.lock",
        Replace("None if stage in self._swept else self._sweep", "None"),
    ),
    Mutant("a file with a second name is written to", "backends/local/lock.py", "_FLAGS", Drop("os.O_NOFOLLOW")),
    # The envelope
    Mutant("the metadata is not bound to its stage", FORMAT, "_metadata_context", Drop("place.stage")),
    Mutant("the metadata is not bound to its header", FORMAT, "_metadata_context", Drop("line")),
    Mutant("the data is not bound to its version's id", FORMAT, "_data_context", Drop("entry.id")),
    Mutant("metadata and data have one context", FORMAT, "_data_context", Body("return _metadata_context(line, place)")),
    Mutant(
        "a context can be read in two ways",
        "_format/seal.py",
        "context",
        Replace("len(encoded).to_bytes(4, 'big') + encoded", "encoded"),
    ),
    Mutant("another version's number is believed", FORMAT, "open_entry", Decide("header.version", False)),
    Quoted(
        "another store's version is tried",
        VAULT,
        "        if header.store != self.keychain.store:\n",
        "        if not header.store:\n",
    ),
    Quoted(
        "what is appended to a file is passed over",
        VAULT,
        "            if file.size != sealed_format.file_length(header, entry):\n",
        "            if file.size < sealed_format.file_length(header, entry):\n",
    ),
    Mutant("metadata of any length is read", FORMAT, "parse_header", Decide("MAX_METADATA_BYTES", False)),
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
    Mutant("NaN becomes null", "_format/round_trip.py", "_has_only_json_types", Replace("_are_finite(value)", "True")),
    Mutant(
        "NaN becomes null, the quick way",
        "_format/round_trip.py",
        "_scan",
        Replace("_MAYBE_NOT_FINITE.search(packed) is not None", "False"),
    ),
    Mutant("a tuple becomes a list, the quick way", "_format/round_trip.py", "_pack", Drop("ormsgpack.OPT_PASSTHROUGH_TUPLE")),
    Mutant("a tuple becomes a list", "_format/round_trip.py", "_has_only_json_types", Decide("types <= TYPES", False)),
    # History
    Quoted(
        "a number is left out",
        HISTORY,
        "        return max(self.version, self.passed) + 1\n",
        "        return max(self.version, self.passed) + 2\n",
    ),
    Quoted("a version does not name the one before it", WRITING, "        previous=tip.id,\n", "        previous=None,\n"),
    Quoted(
        "time goes back with the clock",
        WRITING,
        "        created_at=now if tip.created_at is None else max(now, tip.created_at),\n",
        "        created_at=now,\n",
    ),
    Quoted(
        "an expected version may be older",
        WRITING,
        "        if expected is not None and tip.version != expected:\n",
        "        if expected is not None and tip.version < expected:\n",
    ),
    Quoted(
        "an update writes over what came in between",
        WRITING,
        "            return self.append(stage, tip, make(tip), exactly=True)\n",
        "            return self.append(stage, tip, make(tip))\n",
    ),
    Quoted(
        "a lost answer is not recognised",
        WRITING,
        "                if not self._is_mine(stage, number, entry):\n",
        "                if entry:\n",
    ),
    Quoted(
        "an older directory is served",
        HISTORY,
        "            if number < seen.version:\n                self._rolled_back",
        "            if number < 0:\n                self._rolled_back",
    ),
    Quoted(
        "another version of the same number is served",
        HISTORY,
        "            if expected is not None and expected != look.seen.id:\n",
        "            if expected is not None and not look.seen.id:\n",
    ),
    Mutant(
        "what was seen is forgotten by an older view",
        "_store/last_seen.py",
        "_Folder._write",
        Decide("even_if_older", outcome=True),
    ),
    Quoted(
        "files are removed before that is written down",
        DELETING,
        '        gaps = self.record(stage, versions, "deleted")\n        self._vault.backend.delete(stage, versions)\n',
        '        self._vault.backend.delete(stage, versions)\n        gaps = self.record(stage, versions, "deleted")\n',
    ),
    Quoted(
        "nothing marks what stands above a deletion",
        DELETING,
        "        self._vault.mark(stage, newest)\n",
        "",
    ),
    Quoted(
        "the newest version can be deleted",
        DELETING,
        "                if version == newest:\n",
        "                if version == 0:\n",
    ),
    Quoted(
        "a damaged version counts as done",
        "_operations/load.py",
        '            _LOG.error("%s", error)  # the message says all; a traceback would not help\n            return False\n',
        '            _LOG.error("%s", error)  # the message says all; a traceback would not help\n            return True\n',
    ),
    Quoted(
        "a restore does not say from what",
        "_operations/restore.py",
        "entry.status, restored_from=loaded.version)\n",
        "entry.status)\n",
    ),
    Quoted(
        "a pipeline is restored without being read first",
        "_operations/restore.py",
        "            if then is not None:\n                self._library.version(stage, then[0])\n",
        "",
    ),
    # Keys
    Quoted("a writer does not look at the keyring again", VAULT, "                self.keychain.refresh()\n", ""),
    Mutant("a rotation does not wait for writers", "_operations/rotate_key.py", "_rotate_once", Delete("wait_for_writers")),
    Mutant(
        "a rotation leaves records under the old key",
        "_operations/rotate_key.py",
        "_Resealing._stage",
        Delete("self._records(stage)"),
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
    Quoted("a found key file is not made durable", "_store/open_keyring.py", "        secrets.settle(path)\n", ""),
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
        "a version beyond a gap is hidden by the mark below it",
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
    Quoted(
        "a number that counts as lost is given out again",
        HISTORY,
        "        if look.has_mark:\n",
        "        if look.has_mark or tip:\n",
    ),
    Quoted(
        "a version is marked below numbers that count as lost",
        VAULT,
        "        if last is not None and last.last > newest:\n",
        "        if last is not None and last.last < 0:\n",
    ),
    Quoted(
        "the acceptance of a rollback leaves the old mark",
        "_operations/accept_rollback.py",
        "        self._vault.backend.drop_mark(stage)\n",
        "",
    ),
    Quoted(
        "a record of deletions outgrows what is read back",
        VAULT,
        "        if len(data) > sealed_gaps.RECORD.max_bytes:\n",
        "        if len(data) < 0:\n",
    ),
    Quoted(
        "without a mark, what was remembered hides what is beyond a gap",
        HISTORY,
        "        hint = durable if marked else 0\n",
        "        hint = durable\n",
    ),
    Mutant(
        "a stage that was turned back is imported into", "_operations/import_bundle.py", "_tip", Decide("tip.passed", False)
    ),
    Mutant(
        "a bundle takes the place of a file that was made meanwhile",
        "_operations/bundle_file.py",
        "write",
        Decide("overwrite", True),
    ),
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
    Mutant("two loops run at once", "stages/loop.py", "Loop.__enter__", Delete("self._acquire()")),
    Mutant("a loop that waited does not look again", "stages/loop.py", "Loop._begin", Delete("self._runner.search")),
    Mutant("a loop takes the progress of another call", "stages/loop.py", "Loop._join", Delete("within=around.note")),
    Mutant("any version is deleted as progress", "stages/runner.py", "Runner._is_progress", Drop("entry.status == 'progress'")),
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
    Quoted(
        "a tag protects nothing",
        DELETING,
        "                if names := tags.of(version):\n",
        "                if names := []:\n",
    ),
    Quoted(
        "older tags are believed",
        TAGGING,
        '        if turned_back and self._vault.on_rollback == "raise":\n',
        '        if turned_back and self._vault.on_rollback == "never":\n',
    ),
    Quoted("a tag follows its number", TAGGING, "        if entry.id != tagged.id:\n", "        if not entry.id:\n"),
    Quoted(
        "a tag is moved without being asked",
        TAGGING,
        "            if present is not None and not force:\n",
        "            if present is not None and present.version == 0:\n",
    ),
    Mutant("a rotation leaves tags under the old key", "_operations/rotate_key.py", "_Resealing._records", Delete("tag.write")),
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
    Quoted(
        "a pruning relies on a newest version that nobody has read",
        PRUNING,
        "                self._vault.load(stage, version.number)\n                break\n",
        "                break\n",
    ),
    Mutant(
        "a failed pruning fails the save",
        "_operations/auto_prune.py",
        "AutoPrune.after",
        Decide("isinstance(error, Exception)", outcome=True),
    ),
    Quoted(
        "a killed pruning is never finished",
        PRUNING,
        "            self._deleter.sweep(stage)\n            return plan\n",
        "            return plan\n",
    ),
]
