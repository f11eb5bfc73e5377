"""What a caller may do, as one frozen value."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from infergate.access.policy import Policies, Policy, TokenLimit


class PolicyTests(SynchronousTestCase):
    def test_models_are_shell_patterns_of_the_whole_name_in_its_case(self) -> None:
        """A pattern means the whole name; a star matches a slash too."""
        policy = Policy(models=("qwen*", "gemma", "org/*-[0-9]b"))
        for model in ("qwen", "qwen3/8b", "gemma", "org/a/b-7b"):
            self.assertTrue(policy.may_use_model(model), model)
        for model in ("Qwen", "my-qwen", "gemma2", "org/a-70b", ""):
            self.assertFalse(policy.may_use_model(model), model)
        self.assertTrue(Policy().may_use_model("anything"))

    def test_routes_are_open_only_where_they_are_named(self) -> None:
        """With routes= a key opens what it names, without it everything."""
        policy = Policy(routes=frozenset({"chat"}))
        self.assertEqual([policy.may_use_route(n) for n in ("chat", "metrics")], [True, False])
        self.assertTrue(Policy().may_use_route("metrics"))

    def test_callers_without_rules_have_the_default(self) -> None:
        """Whoever has no rules of its own has those of all."""
        own, default = Policy(concurrent=1), Policy(tokens=(TokenLimit(5, "day"),))
        policies = Policies(default, {"alice": own})
        self.assertEqual((policies.of("alice"), policies.of("bob")), (own, default))
        self.assertEqual(str(default.tokens[0]), "5/day")
