#!/usr/bin/env python3
"""The watch's rules once more, from their formulas and the standard library alone.

    reference.py check < cases     recomputes each case and compares to 1e-9; ends with 1 on a difference
    reference.py vectors           prints the golden vectors of tests/vectors/watch.json

A case is {"rule": ..., "input": ..., "output": ...}; null stands for "nothing is said".
"""

import json
import math
import random
import statistics
import sys

RATIOS = [1.25, 1.5, 2, 3, 5, 10, 30]
POINTS = [1, 1.1, 1.2, 1.3, 1.4, 1.5, 1.6, 1.8, 2, 2.25, 2.5, 2.75, 3, 3.5, 4, 4.5, 5, 6, 7, 8, 10, 12, 15, 20, 25,
          30, 40, 50, 100, 200]
TOLERANCE = 1e-9


def log_mean_exp(values):
    top = max(values)
    return top + math.log(math.fsum(math.exp(v - top) for v in values) / len(values))


def sound(tick):
    treated, treated_bad, control, control_bad = tick
    return treated_bad <= treated and control_bad <= control


def log_e(tick, psi, psi0):
    """ln of (q/q0)^yT ((1-q)/(1-q0))^yC, written out as the formula stands."""
    treated, treated_bad, control, control_bad = tick
    if not sound(tick) or treated == 0 or control == 0:
        return 0.0
    q = psi * treated / (psi * treated + control)
    q0 = psi0 * treated / (psi0 * treated + control)
    rest, rest0 = control / (psi * treated + control), control / (psi0 * treated + control)
    return treated_bad * math.log(q / q0) + control_bad * math.log(rest / rest0)


class Event:
    """Successes are the event once over 30 % of the control users of earlier ticks failed."""

    def __init__(self):
        self.control = self.bad = 0.0

    def choose(self, tick, psi0):
        turn = abs(psi0 - 1) < 1e-12 and self.control >= 20 and self.bad > 0.3 * self.control
        treated, treated_bad, control, control_bad = tick
        if sound(tick):
            self.control += control
            self.bad += control_bad
        if self.control > 100_000:
            self.bad *= 50_000 / self.control
            self.control = 50_000.0
        if turn and sound(tick):
            return [control, control - control_bad, treated, treated - treated_bad]
        return tick


def grid(given):
    psi0, event, wealth, peak = given["tolerated"], Event(), [0.0] * 7, 0.0
    for tick in given["ticks"]:
        tick = event.choose(tick, psi0)
        wealth = [w + log_e(tick, psi0 * r, psi0) for w, r in zip(wealth, RATIOS)]
        peak = max(peak, log_mean_exp(wealth))
    return {"evidence": log_mean_exp(wealth), "p_value": min(1.0, math.exp(-peak))}


def cusum(given):
    psi0, event, wealth = given["tolerated"], Event(), [0.0] * 7
    for tick in given["ticks"]:
        tick = event.choose(tick, psi0)
        if sound(tick) and tick[0] and tick[2]:
            wealth = [max(w, 0.0) + log_e(tick, psi0 * r, psi0) for w, r in zip(wealth, RATIOS)]
    return {"evidence": log_mean_exp(wealth)}


def ratio(given):
    """Mantel and Haenszel's ratio, and the bound up to which all nulls were refused at 5 %."""
    above = below = 0.0
    sums, refused = [0.0] * len(POINTS), 0
    for tick in given["ticks"]:
        treated, treated_bad, control, control_bad = tick
        if not sound(tick) or treated == 0 or control == 0:
            continue
        above += treated_bad * control / (treated + control)
        below += control_bad * treated / (treated + control)
        sums = [s + log_e(tick, psi, 1.0) for s, psi in zip(sums, POINTS)]
        while refused < len(POINTS) - 2:
            evidence = log_mean_exp([s - sums[refused] for s in sums[refused + 1:]])
            if evidence < math.log(20):
                break
            refused += 1
    return {
        "estimate": above / below if below > 0 else None,
        "at_least": POINTS[refused - 1] if refused else None,
    }


def sample_ratio(given):
    counts, shares = given["counts"], given["shares"]
    if any(share <= 0 for share in shares) or len(counts) != len(shares) or len(counts) < 2:
        return {"evidence": None}
    whole, n = math.fsum(shares), sum(counts)
    shares = [share / whole for share in shares]
    found = math.lgamma(1000) - math.lgamma(1000 + n)
    for count, share in zip(counts, shares):
        found += math.lgamma(1000 * share + count) - math.lgamma(1000 * share) - count * math.log(share)
    return {"evidence": found}


def baseline(given):
    users, bad, usual = given["users"], given["bad"], given["usual"]
    if users < 20 or bad > users:
        return {"z": None}
    share = (bad + 3 / 8) / (users + 3 / 4)
    return {"z": 2 * (math.asin(math.sqrt(share)) - math.asin(math.sqrt(usual))) * math.sqrt(users + 1 / 2)}


def usual_of_hour(given):
    rated = sorted((c for c in given["minutes"] if c[0] > 0 and c[1] <= c[0]), key=lambda c: c[1] / c[0])
    cut = len(rated) // 10
    kept = rated[cut:len(rated) - cut]
    users, bad = sum(c[0] for c in kept), sum(c[1] for c in kept)
    return {"rate": bad / users if users >= 20 else None}


def volume(given):
    n, mean = given["n"], given["mean"]
    logs = [k * math.log(mean) - mean - math.lgamma(k + 1) for k in range(n + 1)]
    return {"log_tail": min(0.0, log_mean_exp(logs) + math.log(len(logs)))}


def ewma(given):
    logs = [math.log(v) for v in given["usual"]]
    centre = statistics.median(logs)
    spread = max(0.05, 1.4826 * statistics.median(abs(v - centre) for v in logs))
    level, found = 0.0, []
    for t, value in enumerate(given["values"], 1):
        level = 0.2 * (math.log(value) - centre) / spread + 0.8 * level
        found.append(level / (4 * math.sqrt(0.2 / 1.8 * (1 - 0.8 ** (2 * t)))))
    return {"beyond": found}


def burn(given):
    objective, rate = given["objective"], given["rate"]
    threshold = given["budget"] * 30 * 86_400_000 / given["long_ms"]
    fires = rate > threshold * (1 - objective)
    rollback = given["within_ms"] * rate / (300_000 * (1 - objective))
    return {
        "threshold": threshold,
        "detection_ms": given["long_ms"] * threshold * (1 - objective) / rate if fires else None,
        "rollback": rollback,
    }


def hour_of_week(given):
    weeks, now = given["weeks"][-8:], given["now"]
    roots = [2 * math.sqrt(week[0] + 3 / 8) for week in weeks]
    centre = statistics.median(roots)
    spread = max(1.0, 1.4826 * statistics.median(abs(root - centre) for root in roots))
    rates = [week[1] / week[0] for week in weeks if week[0] >= 20]
    rate = None
    if len(rates) >= 3:
        rate = baseline({"users": now[0], "bad": now[1], "usual": statistics.median(rates)})["z"]
    volume = (2 * math.sqrt(now[0] + 3 / 8) - centre) / spread if len(weeks) >= 3 else None
    return {"rate": rate, "volume": volume}


RULES = {rule.__name__: rule for rule in
         [grid, cusum, ratio, sample_ratio, baseline, usual_of_hour, volume, ewma, burn, hour_of_week]}


def differs(ours, theirs):
    if isinstance(ours, dict):
        return set(ours) != set(theirs) or any(differs(ours[key], theirs[key]) for key in ours)
    if isinstance(ours, list):
        return len(ours) != len(theirs) or any(map(differs, ours, theirs))
    if ours is None or theirs is None:
        return ours is not theirs
    return not abs(ours - theirs) <= TOLERANCE * (1 + abs(ours))


def check():
    cases, wrong = json.load(sys.stdin), 0
    for case in cases:
        found = RULES[case["rule"]](case["input"])
        if differs(found, case["output"]):
            wrong += 1
            if wrong <= 5:
                print(json.dumps({**case, "reference": found}))
    print(f"{len(cases)} cases, {wrong} differences")
    return 1 if wrong or not cases else 0


def vectors():
    draw = random.Random(20260203)

    def ticks(count, treated, control, harmed, healthy):
        fail = lambda users, rate: sum(draw.random() < rate for _ in range(users))
        return [[treated, fail(treated, harmed), control, fail(control, healthy)] for _ in range(count)]

    series = [
        [],
        [[20, 3, 20, 0]],
        [[0, 0, 0, 0], [5, 0, 0, 0], [0, 0, 7, 2], [1, 1, 39, 0]],
        [[3, 9, 20, 1], [20, 2, 20, 1]],
        ticks(40, 20, 20, 0.02, 0.02),
        ticks(40, 2, 38, 0.12, 0.02),
        ticks(60, 20, 20, 0.06, 0.02),
        ticks(60, 20, 20, 0.7, 0.45),
        ticks(30, 30, 10, 0.02, 0.02) + ticks(20, 10, 30, 0.3, 0.02),
        [[4_000_000_000, 80_000_000, 4_000_000_000, 79_000_000]],
    ]
    given = []
    for one in series:
        for tolerated in [1, 1.2]:
            given += [("grid", {"tolerated": tolerated, "ticks": one}), ("cusum", {"tolerated": tolerated, "ticks": one})]
        given.append(("ratio", {"ticks": one}))
    given += [("sample_ratio", {"counts": c, "shares": s}) for c, s in [
        ([0, 0], [0.5, 0.5]), ([55, 45], [0.5, 0.5]), ([120, 880], [0.1, 0.9]), ([9, 0, 31], [1, 1, 2]),
        ([60_000, 40_000], [0.5, 0.5]), ([5, 5], [0, 1])]]
    given += [("baseline", {"users": n, "bad": y, "usual": p}) for n, y, p in [
        (20, 0, 0.02), (240, 29, 0.02), (1000, 20, 0.02), (1000, 1000, 0.0), (19, 19, 0.5), (30, 31, 0.1), (50, 0, 1.0)]]
    given += [("usual_of_hour", {"minutes": m}) for m in [
        [[100, 2]] * 60, [[100, 90]] * 5 + [[100, 2]] * 55, [[3, 9], [0, 0]], [[7, 1], [9, 2], [30, 0]]]]
    given += [("volume", {"n": n, "mean": mean}) for n, mean in [(0, 14.0), (2, 60.0), (40, 60.0), (100, 60.0), (900, 1000.0)]]
    given += [("ewma", {"usual": [100 + 5 * (i % 7) for i in range(60)], "values": v}) for v in [[110] * 5, [230] * 4, [40, 115, 300]]]
    given += [("burn", {"objective": o, "rate": r, "budget": b, "long_ms": ms, "within_ms": 60_000}) for o, r, b, ms in [
        (0.99, 0.2, 0.02, 3_600_000), (0.999, 0.1, 0.05, 21_600_000), (0.99, 0.1, 0.02, 3_600_000), (0.995, 0.5, 0.1, 86_400_000)]]
    given += [("hour_of_week", {"weeks": w, "now": n}) for w, n in [
        ([[40, 8], [41, 8], [42, 8], [43, 8]], [41, 11]), ([[4000, 40]] * 4, [41, 11]), ([[10, 1]] * 3, [30, 2]),
        ([[10, 1]], [30, 2]), ([[n, n // 50] for n in range(100, 1100, 100)], [650, 60])]]
    cases = [{"rule": rule, "input": one, "output": RULES[rule](one)} for rule, one in given]
    print("[\n" + ",\n".join(json.dumps(case) for case in cases) + "\n]")
    return 0


if __name__ == "__main__":
    sys.exit({"check": check, "vectors": vectors}[sys.argv[1]]())
