"""The event stream of a runtime as Prometheus metrics.

====================================================== ==============================================================
``foundation_actor_starts_total``                      actors that were started, by ``kind`` (the class)
``foundation_actor_start_failures_total``              starts that failed, by ``kind``
``foundation_actor_exits_total``                       actors that ended, by ``kind`` and ``reason`` (``crashed`` …)
``foundation_restarts_total``                          children that were restarted, by ``kind`` of their supervisor
``foundation_give_ups_total``                          supervisors whose restart budget was used up, by ``kind``
``foundation_high_water_total``                        mailboxes that grew long, by ``kind``
``foundation_unhandled_messages_total``                messages without a handler, by ``kind``
``foundation_dead_letters_total``                      messages that nobody read, by ``reason``
``foundation_loop_blocks_total``                       times that the event loop did not move
``foundation_loop_blocked_seconds_total``              for how long
``foundation_actors``, ``…_runnable_actors``           actors alive; those with messages to handle
``foundation_names``, ``…_timers``, ``…_zombies``      names taken; timers set; killed actors whose code still runs
``foundation_registry_entries``                        entries, by ``registry``
``foundation_store_rows``                              rows, by ``store`` and ``table``
``foundation_store_transactions_total``                transactions that were committed, by ``store``
``foundation_store_maintenance_failures_total``        times that a file could not be folded, by ``store``
``foundation_cache_requests_total``                    values asked of caches, by ``cache`` and ``result`` (hit, miss)
``foundation_cache_failures_total``                    loads that failed, by ``cache``
``foundation_cache_entries``                           values in caches, by ``cache``
``foundation_resource_used``, ``…_limit``              how much of a resource is used, and may be, by ``resource``
``foundation_resource_pressure``                       0 normal, 1 moderate, 2 severe, by ``resource``
``foundation_dead_letters_kept``                       letters in the queue on disk, by ``state``
``foundation_breaker_changes_total``                   changes of circuit breakers, by ``breaker`` and ``state``
``foundation_lock_expirations_total``                  leases that were over before their locks were given back
``foundation_leader_changes_total``                    changes of leaders, by ``election``
``foundation_workflow_steps_total``                    steps of workflows, by ``result`` (``done``, ``failed`` …)
``foundation_workflow_retries_total``                  attempts at steps that the infrastructure has failed
``foundation_workflow_journal_bytes``                  bytes in the journals of workflows that are open
``agents_bus_signals``                                 signals of buses, by ``bus``, ``subscription`` and ``state``
                                                       (``waiting``, ``in_flight``, ``dead``)
``agents_bus_oldest_seconds``                          age of the oldest that is not done, by ``bus``, ``subscription``
``dspex_calls_total``                                  calls of programs, by ``program``, ``version``, ``outcome``
                                                       and ``error``
``dspex_unparsed_total``                               answers of models that could not be read, by ``program``,
                                                       ``version`` and ``step``
``dspex_team_rungs_total``                             calls of served teams, by ``team`` and ``rung``
``dspex_team_coverage_total``                          their answers, by ``team`` and coverage ``up_to`` a quarter
``dspex_team_members_total``                           what became of members in calls, by ``team``, ``member`` and
                                                       ``outcome``
``dspex_federation_rounds_total``                        rounds of federations, by ``federation`` and ``state``
``dspex_federation_reports_total``                       clients that were asked, by ``federation`` and ``outcome``
``dspex_race_hypotheses_total``                        hypotheses of races, by ``result`` (``begun``, ``dropped``,
                                                       ``suspended``, ``won``)
``dspex_race_runs_total``                              runs on examples that races have looked at
``dspex_race_runs_saved_total``                        those of all hypotheses on all examples that they have saved
``dspex_population_members_total``                     intervals of members of populations, by ``result`` (``trained``,
                                                       ``failed``, ``lost``), and how often one has ``copied``
``foundation_output_lines_dropped_total``              lines of the log and the output that nobody read
``foundation_http_requests_total``                     HTTP requests, by ``method``, ``route`` and ``status``
``foundation_http_request_duration_seconds``           how long they took, by ``method`` and ``route``
====================================================== ==============================================================

No label holds an actor's path, name or number: there can be a million of them.
"""

from __future__ import annotations

from collections import Counter as Tally
from collections.abc import Callable, Iterator
from weakref import WeakKeyDictionary

import msgspec
from prometheus_client import REGISTRY, CollectorRegistry, Counter, Histogram
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from foundation.events import BreakerChanged, HttpHandled, LeaderElected, LockExpired
from foundation.telemetry.collectors import collect_samples
from supervision import Actor, ExitReason, Ref, Runtime, RuntimeStatistics, events
from supervision.events import Event, Subscription

#: What is read from a runtime when the metrics are.
GAUGES: dict[str, tuple[str, Callable[[RuntimeStatistics], int]]] = {
    "foundation_actors": ("Actors alive.", lambda numbers: numbers.actors),
    "foundation_runnable_actors": ("Actors with messages to handle.", lambda numbers: numbers.runnable),
    "foundation_names": ("Names taken.", lambda numbers: numbers.names),
    "foundation_timers": ("Timers set.", lambda numbers: numbers.timers),
    "foundation_zombies": ("Killed actors whose code still runs.", lambda numbers: numbers.zombies),
}


class Attachment(msgspec.Struct, eq=False):
    """A runtime whose events are counted, for as long as one of ``owners`` lives."""

    owners: set[Ref]
    subscription: Subscription


class Instruments(Collector):
    """The metrics of all runtimes that report to one `CollectorRegistry`. Use `instruments` to get them.

    Args:
        registry: where they are registered.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        self._attached: dict[Runtime, Attachment] = {}
        self._past_dead_letters: Tally[str] = Tally()

        def counter(name: str, text: str, *labels: str) -> Counter:
            return Counter(f"foundation_{name}", text, labels, registry=registry)

        self.starts = counter("actor_starts", "Actors that were started.", "kind")
        self.start_failures = counter("actor_start_failures", "Starts of actors that failed.", "kind")
        self.exits = counter("actor_exits", "Actors that ended.", "kind", "reason")
        self.restarts = counter("restarts", "Children that were restarted.", "kind")
        self.give_ups = counter("give_ups", "Supervisors whose restart budget was used up.", "kind")
        self.high_water = counter("high_water", "Mailboxes that grew long.", "kind")
        self.unhandled = counter("unhandled_messages", "Messages without a handler.", "kind")
        self.loop_blocks = counter("loop_blocks", "Times that the event loop did not move.")
        self.loop_blocked = counter("loop_blocked_seconds", "Seconds that the event loop did not move.")
        self.breakers = counter("breaker_changes", "Changes of circuit breakers.", "breaker", "state")
        self.leases = counter("lock_expirations", "Locks whose lease was over before they were given back.")
        self.leaders = counter("leader_changes", "Changes of leaders.", "election")
        self.requests = counter("http_requests", "HTTP requests.", "method", "route", "status")
        self.durations = Histogram(
            "foundation_http_request_duration_seconds",
            "Seconds that HTTP requests took.",
            ("method", "route"),
            registry=registry,
        )
        self._requests: dict[tuple[str, str, int], tuple[Callable[[], None], Callable[[float], None]]] = {}
        self._counts: dict[type[Event], Callable[..., None]] = {
            events.Started: lambda event: self.starts.labels(event.kind).inc(),
            events.StartFailed: lambda event: self.start_failures.labels(event.kind).inc(),
            events.Exited: lambda event: self.exits.labels(event.kind, reason_label(event.reason)).inc(),
            events.Restarted: lambda event: self.restarts.labels(event.kind).inc(),
            events.GaveUp: lambda event: self.give_ups.labels(event.kind).inc(),
            events.HighWater: lambda event: self.high_water.labels(event.kind).inc(),
            events.Unhandled: lambda event: self.unhandled.labels(event.kind).inc(),
            events.LoopUnblocked: self._unblocked,
            HttpHandled: self._request,
            BreakerChanged: lambda event: self.breakers.labels(event.name, event.after).inc(),
            LockExpired: lambda event: self.leases.inc(),
            LeaderElected: lambda event: self.leaders.labels(event.election).inc(),
        }
        registry.register(self)

    def _unblocked(self, event: events.LoopUnblocked) -> None:
        self.loop_blocks.inc()
        self.loop_blocked.inc(event.seconds)

    def _request(self, event: HttpHandled) -> None:
        # Methods, routes and statuses are few, and looking a metric up by its labels costs more than counting.
        key = event.method, event.route, event.status
        found = self._requests.get(key)
        if found is None:
            counter = self.requests.labels(event.method, event.route, str(event.status))
            found = self._requests[key] = counter.inc, self.durations.labels(event.method, event.route).observe
        found[0]()
        found[1](event.seconds)

    def count(self, event: Event) -> None:
        """Count an event."""
        self._counts[type(event)](event)

    def attach(self, runtime: Runtime, owner: Ref) -> None:
        """Count the events of a runtime while ``owner`` lives: once, however many owners there are."""
        attached = self._attached.get(runtime)
        if attached is None:
            subscription = runtime.subscribe(self.count, *self._counts)
            self._attached[runtime] = Attachment({owner}, subscription)
        else:
            attached.owners.add(owner)

    def detach(self, runtime: Runtime, owner: Ref) -> None:
        """Do not count the events of a runtime for ``owner`` any more; what was counted stays."""
        self._attached[runtime].owners.discard(owner)
        self._prune()

    def _prune(self) -> None:
        """Forget the runtimes that nobody wants counted any more."""
        for runtime, attached in list(self._attached.items()):
            attached.owners = {owner for owner in attached.owners if owner.reason is None}
            if not attached.owners:
                del self._attached[runtime]
                attached.subscription.close()
                self._past_dead_letters.update(runtime.statistics().dead_letters)

    def collect(self) -> Iterator[Metric]:
        """Return what is read from the runtimes at this moment."""
        self._prune()
        statistics = [runtime.statistics() for runtime in self._attached]
        for name, (text, read) in GAUGES.items():
            yield GaugeMetricFamily(name, text, sum(read(numbers) for numbers in statistics))
        letters = CounterMetricFamily("foundation_dead_letters", "Messages that nobody read.", labels=["reason"])
        for reason, count in sum((Tally(n.dead_letters) for n in statistics), self._past_dead_letters).items():
            letters.add_metric([reason], count)
        yield letters
        yield from self._of_services()

    def _of_services(self) -> Iterator[Metric]:
        families: dict[str, GaugeMetricFamily | CounterMetricFamily] = {}
        for sample in (sample for runtime in self._attached for sample in collect_samples(runtime)):
            family = families.get(sample.name)
            if family is None:
                kind = GaugeMetricFamily if sample.kind == "gauge" else CounterMetricFamily
                names = [name for name, _ in sample.labels]
                family = families[sample.name] = kind(f"{sample.prefix}_{sample.name}", sample.text, labels=names)
            family.add_metric([value for _, value in sample.labels], sample.value)
        yield from families.values()


def reason_label(reason: ExitReason) -> str:
    """Return the kind of an exit reason, such as ``crashed``."""
    return str(type(reason).__struct_config__.tag)


_instruments: WeakKeyDictionary[CollectorRegistry, Instruments] = WeakKeyDictionary()


def instruments(registry: CollectorRegistry = REGISTRY) -> Instruments:
    """Return the metrics in a registry, made when they are first asked for."""
    found = _instruments.get(registry)
    if found is None:
        found = _instruments[registry] = Instruments(registry)
    return found


class Metrics(Actor):
    """Counts what happens in its runtime, for Prometheus.

    Two runtimes that report to the same registry are added up; two of these actors in one runtime count once.

    Args:
        registry: where the metrics are registered; that of the process if None.
    """

    trap_exit = True
    infrastructure = True

    def __init__(self, registry: CollectorRegistry | None = None) -> None:
        self._instruments = instruments(REGISTRY if registry is None else registry)

    def init(self) -> None:
        """Begin to count."""
        self._instruments.attach(self.runtime, self.ref)

    def terminate(self, reason: ExitReason) -> None:
        """Stop counting."""
        self._instruments.detach(self.runtime, self.ref)
