"""Tests of the session object: its reads, its writes, and that no change in place is lost silently."""

import copy
import unittest
from collections import OrderedDict, defaultdict
from datetime import timedelta
from heapq import heappush
from typing import Any

from cloakroom import Committed, Invalid, flash, get_flashed_messages, get_flashed_messages_with_categories, session
from cloakroom.host import Context
from cloakroom.rehearsal import MemoryCookies, MemorySession


class SessionTest(unittest.TestCase):
    def begin(self, **entries: str) -> MemorySession:
        """Returns the context of a request whose session contains these JSON texts."""
        memory = MemorySession(entries)
        self.context = Context(memory, MemoryCookies())
        self.context.__enter__()
        self.addCleanup(self.context.__exit__)
        return memory

    def release(self) -> None:
        self.context.tell_changes()


class ReadsAndWrites(SessionTest):
    def test_a_key_reads_itself_alone(self) -> None:
        memory = self.begin(num="1", user='"ada"')
        self.assertEqual((session["num"], session.get("user"), session.get("x", 7), "num" in session), (1, "ada", 7, True))
        self.assertEqual(memory.reads, ["num", "user", "x", "num"])
        self.assertEqual((sorted(session), len(session)), (["num", "user"], 2))
        self.assertEqual(memory.reads[-1], "*")

    def test_untouched_keys_are_never_written(self) -> None:
        memory = self.begin(cart='{ "items" : [1.50, "\\u00e9", 1e2] }', other="[1]")
        self.assertEqual(session["cart"]["items"], [1.5, "é", 100.0])
        self.release()
        self.assertEqual(memory.calls, [])

    def test_null_is_an_entry(self) -> None:
        self.begin(user="null")
        self.assertEqual((session.get("user", "nobody"), "user" in session), (None, True))

    def test_a_missing_key_is_a_key_error_and_discard_reads_nothing(self) -> None:
        memory = self.begin(user="1")
        for fails in (lambda: session["x"], lambda: session.__delitem__("x"), lambda: session.pop("x")):
            with self.assertRaises(KeyError):
                fails()
        memory.reads.clear()
        session.discard("x")
        session.discard("user")
        self.assertEqual((memory.reads, memory.entries), ([], {}))

    def test_it_is_a_mutable_mapping(self) -> None:
        memory = self.begin(a="1")
        session.update(b=2, c=[3])
        self.assertEqual((session.pop("a"), session.setdefault("d", {}), dict(session)), (1, {}, {"b": 2, "c": [3], "d": {}}))
        session.clear()
        self.assertEqual(memory.entries, {})

    def test_counters_are_added_to_without_a_read(self) -> None:
        memory = self.begin(num="41")
        session.add("views")
        self.assertEqual((session.increment("num"), session["views"], memory.reads), (42, 1, ["views"]))
        with self.assertRaisesRegex(ValueError, "64 bits"):
            session.add("views", 2**63)

    def test_a_refused_value_names_its_key_and_changes_nothing(self) -> None:
        memory = self.begin(n="1")
        with self.assertRaisesRegex(TypeError, r"session\['n'\]"):
            session["n"] = object()
        with self.assertRaisesRegex(ValueError, r"session\['n'\]"):
            session["n"] = float("nan")
        self.assertEqual((memory.calls, session["n"]), ([], 1))

    def test_a_key_is_a_text(self) -> None:
        self.begin()
        with self.assertRaises(TypeError):
            session[1] = 1  # type: ignore[index]
        with self.assertRaisesRegex(Invalid, "surrogate"):
            session["\ud83d"] = 1

    def test_the_lifetime_is_a_timedelta(self) -> None:
        memory = self.begin()
        session.max_age = timedelta(days=30)
        self.assertEqual((memory.max_age, session.max_age), (2_592_000_000, timedelta(days=30)))
        session.max_age = None
        self.assertIsNone(session.max_age)
        with self.assertRaisesRegex(TypeError, "timedelta"):
            session.max_age = 3600  # type: ignore[assignment]

    def test_outside_of_a_request_there_is_none(self) -> None:
        with self.assertRaisesRegex(RuntimeError, "there is no request"):
            session["n"] = 1

    def test_nothing_of_one_request_is_there_in_the_next(self) -> None:
        self.begin(cart="[1]")
        session["cart"].append(2)
        flash("one")
        get_flashed_messages()
        self.context.__exit__()
        memory = self.begin(cart="[5]")
        self.assertEqual((session["cart"], get_flashed_messages()), ([5], []))
        self.release()
        self.assertEqual(memory.calls, [])


class ChangesInPlace(SessionTest):
    def test_they_are_stored(self) -> None:
        changes: list[tuple[str, Any, str]] = [
            ('{"items":[]}', lambda cart: cart["items"].append({"id": 1}), '{"items":[{"id":1}]}'),
            ("[3]", lambda queue: heappush(queue, 1), "[1,3]"),
            ('{"a":1}', lambda cart: dict.update(cart, a=1.0), '{"a":1.0}'),
            ("[1]", lambda flags: flags.__setitem__(0, True), "[true]"),
        ]
        for before, change, after in changes:
            with self.subTest(after=after):
                memory = self.begin(cart=before)
                change(session["cart"])
                self.release()
                self.assertEqual(memory.entries["cart"], after)
                self.release()
                self.assertEqual(memory.calls, ["set cart"])
                self.context.__exit__()

    def test_a_value_stays_the_same_object_within_a_request(self) -> None:
        memory = self.begin(cart="[]")
        session["cart"].append(1)
        session["cart"].append(2)
        self.assertEqual(session.get("cart"), [1, 2])
        self.release()
        self.assertEqual((memory.entries["cart"], memory.reads), ("[1,2]", ["cart"]))

    def test_a_value_that_was_set_is_watched_too(self) -> None:
        values: list[Any] = [[], {}, OrderedDict(), defaultdict(list), ([],)]
        for value in values:
            memory = self.begin()
            session["cart"] = value
            inner = value if isinstance(value, list) else value[0] if isinstance(value, tuple) else value.setdefault("x", [])
            inner.append(1)
            self.release()
            self.assertIn("1", memory.entries["cart"])
            self.context.__exit__()

    def test_one_that_json_cannot_hold_is_refused_by_name(self) -> None:
        self.begin(cart="{}")
        session["cart"][1] = "one"
        with self.assertRaisesRegex(TypeError, r"session\['cart'\]"):
            self.release()

    def test_after_the_release_they_are_refused(self) -> None:
        memory = self.begin(cart="[]")
        cart = session["cart"]
        self.release()
        memory.is_released = True
        cart.append(1)
        with self.assertRaisesRegex(Committed, r"^session\['cart'\] was changed in place: "):
            self.release()

    def test_before_a_save_they_are_saved_and_after_it_stored_as_well(self) -> None:
        memory = self.begin(cart="[]")
        cart = session["cart"]
        cart.append(1)
        session.save()
        self.assertEqual(memory.stored["cart"], "[1]")
        cart.append(2)
        self.release()
        self.assertEqual(memory.calls, ["set cart", "save", "set cart"])

    def test_a_reload_forgets_them(self) -> None:
        memory = self.begin(cart="[]")
        session["cart"].append(1)
        session.reload()
        self.assertEqual(session["cart"], [])
        self.release()
        self.assertEqual(memory.calls, ["reload"])

    def test_a_value_that_was_taken_out_is_the_handlers_own(self) -> None:
        memory = self.begin(a="[]", b="[]", c="[]")
        mine = [session.pop("a"), session["b"], session["c"]]
        session["b"] = [5]
        session.clear()
        for value in mine:
            value.append(1)
        self.release()
        self.assertEqual(memory.entries, {})


class ChangesOfDroppedValues(SessionTest):
    def test_they_are_refused(self) -> None:
        for drop in ("destroy", "regenerate", "reload", "unset"):
            with self.subTest(drop=drop):
                self.begin(cart='{"items":[]}')
                cart = session["cart"]
                cart["items"].append(1)
                getattr(session, drop)()
                self.release()
                cart["items"].append(2)
                with self.assertRaisesRegex(Invalid, rf"session\['cart'\] was changed after {drop}\(\)"):
                    self.release()
                self.context.__exit__()

    def test_a_value_that_was_put_back_lives_on(self) -> None:
        memory = self.begin(cart='{"items":[]}')
        cart = session["cart"]
        session.regenerate()
        session["cart"] = cart
        cart["items"].append(1)
        self.release()
        self.assertEqual(memory.entries, {"cart": '{"items":[1]}'})

    def test_a_part_that_was_put_back_lives_on_and_the_rest_does_not(self) -> None:
        memory = self.begin(cart='{"items":[],"note":""}')
        cart = session["cart"]
        session.regenerate()
        session["items"] = cart["items"]
        cart["items"].append(1)
        self.release()
        self.assertEqual(memory.entries, {"items": "[1]"})
        cart["note"] = "lost"
        with self.assertRaises(Invalid):
            self.release()

    def test_a_copy_is_the_handlers_own(self) -> None:
        self.begin(cart="[]")
        cart = copy.deepcopy(session["cart"])
        session.destroy()
        cart.append(1)
        self.release()

    def test_after_a_destroy_nothing_is_read_and_writes_are_refused(self) -> None:
        self.begin(cart="[]", num="1")
        self.assertEqual(session["cart"], [])
        session.destroy()
        self.assertEqual((session.get("cart"), session.get("num")), (None, None))
        with self.assertRaises(Invalid):
            session["num"] = 2

    def test_a_refused_destroy_drops_nothing(self) -> None:
        memory = self.begin(cart="[]")
        cart = session["cart"]
        memory.is_released = True
        with self.assertRaises(Committed):
            session.destroy()
        memory.is_released = False
        cart.append(1)
        self.release()
        self.assertEqual(memory.entries["cart"], "[1]")


class FlashMessages(SessionTest):
    def test_they_are_shown_once(self) -> None:
        memory = self.begin()
        flash("Saved.")
        flash("No room left.", "error")
        self.release()
        self.context.__exit__()
        self.assertEqual(memory.entries["flash"], '{"message":["Saved."],"error":["No room left."]}')
        memory = self.begin(**memory.entries)
        shown = [("message", "Saved."), ("error", "No room left.")]
        self.assertEqual(get_flashed_messages_with_categories(), shown)
        self.assertEqual(get_flashed_messages(), ["Saved.", "No room left."])
        self.assertEqual(memory.entries, {})

    def test_a_page_without_messages_writes_nothing(self) -> None:
        memory = self.begin()
        self.assertEqual((get_flashed_messages(), memory.calls), ([], []))

    def test_what_is_no_dict_of_lists_counts_as_no_messages(self) -> None:
        for odd in ('"text"', "[1]", "7", "null", '{"message":"text"}'):
            with self.subTest(odd=odd):
                self.begin(flash=odd)
                self.assertEqual(get_flashed_messages(), [])
                self.context.__exit__()
                memory = self.begin(flash=odd)
                flash("Saved.")
                self.release()
                self.assertEqual(memory.entries["flash"], '{"message":["Saved."]}')
                self.context.__exit__()
