import numpy as np
import pytest

from all_detect_training.schedule import triangular2, triangular2_schedule

LOW, HIGH = 1e-7, 2e-3
HALF_CYCLE = 6 * 365.0
# Updates in half cycles, and the rate there: the paper's bounds, then half and a quarter of the climb.
EXPECTED = {
    0.0: LOW,
    0.5: (LOW + HIGH) / 2,
    1.0: HIGH,
    1.5: (LOW + HIGH) / 2,
    2.0: LOW,
    3.0: LOW + (HIGH - LOW) / 2,
    4.0: LOW,
    5.0: LOW + (HIGH - LOW) / 4,
    6.0: LOW,
}


def test_rates_at_starts_flanks_and_peaks_of_the_cycles() -> None:
    steps = np.array(list(EXPECTED)) * HALF_CYCLE
    np.testing.assert_allclose(triangular2(steps, LOW, HIGH, HALF_CYCLE, np), list(EXPECTED.values()), rtol=1e-12)


def test_a_half_cycle_that_is_no_whole_number_of_updates() -> None:
    rates = triangular2(np.arange(60), LOW, HIGH, 7.5, np)
    assert rates.min() >= LOW
    assert rates.max() <= HIGH
    assert rates[15] == pytest.approx(LOW)
    assert rates[7] == pytest.approx(LOW + (HIGH - LOW) * 7 / 7.5)


def test_keras_takes_the_same_rates() -> None:
    import keras

    schedule = triangular2_schedule(LOW, HIGH, HALF_CYCLE)
    for halves, expected in EXPECTED.items():
        rate = float(keras.ops.convert_to_numpy(schedule(keras.ops.convert_to_tensor(int(halves * HALF_CYCLE)))))
        # In float32 the steps next to a foot differ by 1e-10 or so.
        assert rate == pytest.approx(expected, rel=1e-5, abs=1e-9)
    assert schedule.get_config() == {"lowest": LOW, "highest": HIGH, "half_cycle": HALF_CYCLE}
