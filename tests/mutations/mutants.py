"""Small ways to break the save protocol, the file format and the history. A test must notice each.

A mutant names a symbol and a small edit of it, so that renaming something else does not break the mutant. A test checks that
each edit fits exactly one place.
"""

from __future__ import annotations

from dataclasses import dataclass

from tests.mutations.edits import Body, Decide, Delete, Drop, Edit, PlaceError, Replace, edited


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
    Quoted("a file is not synced", FILES, "            if durable:\n                sync(descriptor)\n", ""),
    Quoted(
        "a version's name is not synced",
        LOCAL,
        "                if self._durable:\n                    files.sync(directory)\n            except BaseException as error:",
        "            except BaseException as error:",
    ),
    Quoted(
        "the directory is synced before the link",
        LOCAL,
        "                files.publish(temporary, tree.version_name(version), directory)\n                if self._durable:\n"
        "                    files.sync(directory)\n",
        "                if self._durable:\n                    files.sync(directory)\n"
        "                files.publish(temporary, tree.version_name(version), directory)\n",
    ),
    Quoted(
        "a taken number is overwritten",
        FILES,
        "        os.link(temporary, name, src_dir_fd=directory, dst_dir_fd=directory, follow_symlinks=False)\n    except OSError as "
        "error:\n        if error.errno not in _NO_HARD_LINKS:\n            raise\n        if exists",
        "        os.rename(temporary, name, src_dir_fd=directory, dst_dir_fd=directory)\n    except OSError as error:\n        "
        "if error.errno not in _NO_HARD_LINKS:\n            raise\n        if exists",
    ),
    Quoted("a short write is taken for a whole one", FILES, "    if written < len(piece):", "    if written < 0:"),
    Quoted(
        "a short read is taken for a whole one",
        FILES,
        "        if len(piece) == length or not piece:\n",
        "        if len(piece) <= length:\n",
    ),
    Quoted(
        "a failed write leaves its file",
        FILES,
        "    except BaseException:\n        remove(name, directory)\n",
        "    except BaseException:\n",
    ),
    Quoted(
        "modes are left to the umask",
        FILES,
        "            os.fchmod(descriptor, FILE_MODE)  # the umask may have taken bits away\n",
        "",
    ),
    Quoted("links are followed in reading", FILES, "_READ = os.O_RDONLY | os.O_NOFOLLOW |", "_READ = os.O_RDONLY |"),
    Quoted(
        "a FIFO is waited for",
        FILES,
        "os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC\n_CREATE",
        "os.O_NOFOLLOW | os.O_CLOEXEC\n_CREATE",
    ),
    Quoted(
        "what is no regular file is read",
        FILES,
        "        if not stat.S_ISREG(status.st_mode):\n",
        "        if status.st_mode == 0:\n",
    ),
    Quoted(
        "the folder of damaged files is not durable",
        UPKEEP,
        "    files.make_directory(folder)\n    files.sync_directory(root)\n",
        "    files.make_directory(folder)\n",
    ),
    Quoted(
        "the store's directory is not durable",
        UPKEEP,
        "        _sync_names_up_to(path)\n",
        "        pass\n",
    ),
    Quoted("names made by others are not synced", LOCAL, "                upkeep.sync_stage_names(self.location)\n", ""),
    Quoted("a long name is not written down", LOCAL, "                upkeep.name_stage_directory(stage, directory)\n", ""),
    Quoted(
        "a version is replaced without a sync",
        LOCAL,
        "            temporary = files.write_temporary(directory, pieces, durable=self._durable)\n            try:\n                os.rename",
        "            temporary = files.write_temporary(directory, pieces, durable=False)\n            try:\n                os.rename",
    ),
    Quoted(
        "a mark is not made durable",
        LOCAL,
        "            upkeep.put_mark(self.location, stage, version, directory)\n            files.sync_directory(self.location)\n",
        "            upkeep.put_mark(self.location, stage, version, directory)\n",
    ),
    Quoted(
        "a reader is shown what is not durable",
        HISTORY,
        "            if not look.marked:\n",
        "            if look.number < 0:\n",
    ),
    Quoted(
        "the newest version is looked for one too far",
        FINDING,
        "                return number\n        return None\n",
        "                return number + 1\n        return None\n",
    ),
    Quoted(
        "a far mark is believed",
        FINDING,
        "                number = max(numbers(folder), default=0)\n",
        "                number = hint or max(numbers(folder), default=0)\n",
    ),
    Quoted(
        "another file is read in the place of a version, as long as it has its mark",
        FINDING,
        "        if not os.path.samestat(visit.mark.status, visit.found[1]):\n",
        "        if visit.mark.status is None:\n",
    ),
    Quoted(
        "any mark counts as that of the version it should be",
        FINDING,
        "                return folder is not None and os.path.samestat(mark, self._look_at(stage, version, folder))\n",
        "                return folder is not None and bool(mark) and bool(self._look_at(stage, version, folder))\n",
    ),
    Quoted(
        "a visit believes what it has changed since",
        "backends/local/session.py",
        "        self.newest, self.found = 0, None\n",
        "",
    ),
    Quoted(
        "a record is written whoever changed it",
        LOCAL,
        "                if not self._is_still(expected, file_name, directory):\n",
        "                if not directory:\n",
    ),
    Quoted("two make a keyring each", UPKEEP, "    if not first:\n        os.rename", "    if directory:\n        os.rename"),
    # Locks
    Quoted(
        "the lock is ignored",
        LOCK,
        "        if lock_descriptor(self._descriptor, blocking=False):\n",
        "        if lock_descriptor(self._descriptor, blocking=False) is not None:\n",
    ),
    Quoted(
        "a lock on a file that is gone counts",
        LOCK,
        "        return named if os.path.samestat(self._status, named) else None\n",
        "        return named\n",
    ),
    Quoted(
        "a child keeps its parent's lock",
        "backends/local/lock_descriptors.py",
        "    for descriptor in _open:\n        os.close(descriptor)\n",
        "",
    ),
    Quoted(
        "a child frees its parent's lock",
        LOCK,
        "        if os.getpid() != self._process:  #",
        "        if not self._process:  #",
    ),
    Quoted(
        "who holds the lock is not said", LOCK, "        holder = _read_note(self._descriptor)\n", "        holder = None\n"
    ),
    Quoted(
        "what a killed writer left stays",
        LOCK,
        "        self._was_abandoned = os.pread(self._descriptor, 1, 0) == _NOTE_BEGINS\n",
        "",
    ),
    Quoted(
        "a file with a second name is written to",
        LOCK,
        "        if named.st_nlink != 1:\n",
        "        if named.st_nlink == 0:\n",
    ),
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
    Quoted(
        "the list of slots is not authenticated",
        KEYRING,
        "        seal.unseal(opened.active_key, opened.keyring.seal, opened.keyring.context())\n",
        "        opened.keyring.context()\n",
    ),
    Quoted("a keyring may be spelled in any way", KEYRING, "        if keyring.encode() != data or len", "        if len"),
    Quoted(
        "a keyring's serial number stays",
        KEYRING,
        "serial=opened.keyring.serial + 1, seal",
        "serial=opened.keyring.serial or 1, seal",
    ),
    Quoted(
        "any cost of a passphrase is accepted",
        "_format/key_slot.py",
        '        ("memory_kib", cost.memory_kib, MIN_MEMORY_KIB, MAX_MEMORY_KIB),\n',
        '        ("memory_kib", cost.memory_kib, 8, 2**40),\n',
    ),
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
    Quoted(
        "what was seen is forgotten by an older view",
        WITNESS,
        "            elif int(present[1]) < seen.version:\n",
        "            elif present:\n",
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
    Quoted("a rotation does not wait for writers", ROTATING, "    vault.backend.wait_for_writers(vault.lock_timeout)\n", ""),
    Quoted("a rotation leaves records under the old key", ROTATING, "            _seal_records_anew(vault, stage)\n", ""),
    Quoted(
        "a rotation finishes another's",
        ROTATING,
        "        return finish_rotation(opened) if opened.rotating and opened.keyring.active == ours else opened\n",
        "        return finish_rotation(opened) if opened.rotating else opened\n",
    ),
    Quoted(
        "an older keyring is served",
        "_store/open_keyring.py",
        '            if self._on_rollback == "raise":\n',
        '            if self._on_rollback == "never":\n',
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
        Decide("entry.previous != self.id", False),
    ),
    Mutant("another history is continued", "_operations/import_bundle.py", "_is_one_history", Drop("here == there")),
    Mutant(
        "a version beyond a gap is hidden by the mark below it", "_operations/import_bundle.py", "_append", Delete("drop_mark")
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
    Quoted(
        "a repair moves what can't be read just now",
        "_operations/verify.py",
        '            return Finding(stage, version, "unreadable", str(error))\n',
        '            return Finding(stage, version, "damaged", str(error))\n',
    ),
    Quoted(
        "a repaired newest version brings back the one before",
        "_operations/repair.py",
        "                self._writer.append(stage, self._history.tip(stage), _AFTER_DAMAGE)\n",
        "                pass\n",
    ),
    Quoted(
        "a missing version is not reported",
        "_operations/verify.py",
        "            if first > reached + 1:\n",
        "            if first > reached + 10**12:\n",
    ),
    Quoted(
        "two histories are not told apart",
        "_operations/verify.py",
        "            if before is not None and entry.previous is not None and before != entry.previous:\n",
        "            if before is not None and entry.previous is not None and not before:\n",
    ),
    # Stages and long loops
    Quoted(
        "a state is saved before its item is done",
        PARTIAL,
        "            for item in remaining:\n                yield item\n                self._item_done()\n",
        "            for item in remaining:\n                self._item_done()\n                yield item\n",
    ),
    Quoted("a loop that fails saves nothing", PARTIAL, "        self._keeper.save()\n        reached =", "        reached ="),
    Quoted(
        "two loops run at once",
        PARTIAL,
        "                resources.enter_context(self._runner.alone(self._call.stage, self._timeout))\n",
        "",
    ),
    Quoted(
        "a loop that waited does not look again",
        PARTIAL,
        "                found = self._runner.search(self._call, _KINDS)  # who held the lock may have completed it\n",
        "",
    ),
    Quoted("a loop takes the progress of another call", PARTIAL, '        self._call.note["within"] = around.note\n', ""),
    Quoted(
        "any version is deleted as progress", RUNNING, '.status == "progress"\n        except', " is not None\n        except"
    ),
    Quoted("progress stays beside the result", RUNNING, "        self.remove_progress(call.stage, call.superseded)\n", ""),
    Quoted("only one progress version is kept", KEEPING, "self.kept[:-2], self.kept[-2:]", "self.kept[:-1], self.kept[-1:]"),
    Quoted("saving may take all the time", PACING, "max(self.every_seconds, took / _SAVING_SHARE)", "self.every_seconds"),
    Quoted(
        "what can't be read is passed over in the search",
        SEARCHING,
        'return None if gap is None or gap.reason == "set aside" else gap',
        "return gap or Gap(number, number, None, None)",
    ),
    Quoted(
        "the index does not see a clear", SEARCHING, "index = self._indexes[stage] = _Index(number, number, whole=True)", "pass"
    ),
    Quoted("any class of a name will do", FINGERPRINT, "    if found is not kind:", "    if found is None:"),
    Quoted(
        "the order of a dict does not count", FINGERPRINT, "_all(value.items(), level)", "sorted(_all(value.items(), level))"
    ),
    Quoted(
        "what an object holds beside its fields does not count",
        FINGERPRINT,
        "for name in (*fields, *others)",
        "for name in fields",
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
    Quoted(
        "a rotation leaves tags under the old key",
        ROTATING,
        "        tagging.write(vault, stage, tags, record)\n",
        "        pass\n",
    ),
    Quoted(
        "a deletion of what has a tag is not reported",
        "_operations/verify.py",
        '            elif gap.reason == "deleted" and self._tagger',
        '            elif gap.reason == "lost" and self._tagger',
    ),
    Quoted(
        "failures push completed versions out",
        STANDING,
        "        return self._limit > 0 and self._status in {None, version.status}\n",
        "        return self._limit > 0\n",
    ),
    Quoted(
        "a period keeps its oldest version",
        STANDING,
        "            lost = self._held.pop()[1]\n        elif",
        "            return False, None\n        elif",
    ),
    Quoted(
        "what was cleared is forgotten",
        STANDING,
        '            _Rule("newest cleared", 1, _number, "cleared"),\n',
        "",
    ),
    Quoted(
        "what others deleted is counted as kept",
        TRIMMING,
        "            if any(number in gaps for number in memory.held_versions.held):\n",
        "            if any(number in gaps for number in ()):\n",
    ),
    Quoted(
        "a save prunes what has a tag",
        TRIMMING,
        "            memory.spared[number] = free.pop(number)\n",
        "            memory.spared[number] = free[number]\n",
    ),
    Quoted(
        "a save relies on a newest version that nobody has read",
        TRIMMING,
        "        if newest_completed is not None and newest_completed != memory.proven:\n",
        "        if newest_completed is not None and newest_completed == 0:\n",
    ),
    Quoted(
        "a pruning relies on a newest version that nobody has read",
        PRUNING,
        "                self._vault.load(stage, version.number)\n                break\n",
        "                break\n",
    ),
    Quoted(
        "a failed pruning fails the save",
        TRIMMING,
        "            if not isinstance(error, Exception):\n",
        "            if error:\n",
    ),
    Quoted(
        "a killed pruning is never finished",
        PRUNING,
        "            self._deleter.sweep(stage)\n            return plan\n",
        "            return plan\n",
    ),
]
