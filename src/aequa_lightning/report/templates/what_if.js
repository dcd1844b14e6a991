// Computes models and payments for other wishes. The rules are those of rewards/allocation/transfers.py and, for a
// changed contribution, of pay_deserved in deserved.py: the nearest width on offer, and nobody below what it reaches alone.
{
  const asked = JSON.parse(document.getElementById("what-if-data").textContent);
  const control = (name) => document.getElementById(`what-if-${name}`);
  const sum = (values) => values.reduce((total, value) => total + value, 0);
  const show = (value, digits) => (Math.abs(value) < 0.5 / 10 ** digits ? 0 : value).toFixed(digits).replace("-", "−");
  const score = (value) => (asked.in_percent ? `${show(100 * value, 1)}\u202f%` : show(value, 3));
  const signed = (value, digits) => (Number(show(value, digits)) > 0 ? "+" : "") + show(value, digits);

  const nearestLevels = (alone) => {
    const last = asked.accuracies.length - 1;
    const reference = Math.max(asked.accuracies[last], ...alone);
    return alone.map((brought) => {
      const deserved = reference - asked.slope * (Math.max(...alone) - brought);
      let below = asked.accuracies.filter((accuracy) => accuracy <= deserved + 1e-9).length - 1;
      below = Math.max(below, 0);
      const above = Math.min(below + 1, last);
      const nearest = asked.accuracies[above] - deserved < deserved - asked.accuracies[below] - 1e-9 ? above : below;
      const floor = asked.accuracies.findIndex((accuracy) => accuracy >= brought);
      return brought === Math.max(...alone) ? last : Math.max(nearest, brought > 0 ? (floor < 0 ? last : floor) : 0);
    });
  };

  const payments = (alone, received, price) => {
    const raw = alone.map((brought, index) => received[index] - asked.slope * brought);
    const surplus = raw.map((value) => value - sum(raw) / raw.length);
    const owed = surplus.map((value, index) => Math.min(Math.max(value, 0), Math.max(received[index] - alone[index], 0)));
    const lacking = surplus.map((value) => Math.max(-value, 0));
    const share = sum(lacking) > 0 ? sum(owed) / sum(lacking) : 0;
    return lacking.map((value, index) => 100 * price * (value * share - owed[index]));
  };

  const update = () => {
    const who = Number(control("who").value);
    const changed = Number(control("brought").value) !== Number(control("brought").defaultValue);
    const alone = asked.alone.map((value, index) => (changed && index === who ? Number(control("brought").value) / 100 : value));
    control("models").disabled = changed;
    const levels = changed ? nearestLevels(alone) : asked.models[Number(control("models").value)].levels;
    const received = levels.map((level) => asked.accuracies[level]);
    const price = Number(control("price").value);
    const paid = price > 0 ? payments(alone, received, price) : alone.map(() => 0);
    control("price-shown").value = price > 0 ? `${price} a point` : "models only";
    control("brought-shown").value = score(Number(control("brought").value) / 100);
    control("rule").textContent = changed ? "With another contribution, models are the nearest to what is deserved." : "";
    for (const row of document.querySelectorAll("#what-if tbody tr")) {
      const index = Number(row.dataset.who);
      const [brought, width, accuracy, payment, gain] = row.querySelectorAll("td");
      const gained = received[index] - alone[index] + (price > 0 ? paid[index] / (100 * price) : 0);
      brought.textContent = score(alone[index]);
      width.textContent = String(Number(asked.widths[levels[index]].toFixed(4)));
      accuracy.textContent = score(received[index]);
      payment.textContent = signed(paid[index], 2);
      gain.textContent = signed(100 * gained, 1);
      gain.classList.toggle("loss", gained < 0);
    }
  };

  const chooseParticipant = () => {
    const present = (100 * asked.alone[Number(control("who").value)]).toFixed(1);
    control("brought").defaultValue = present;
    control("brought").value = present;
    update();
  };
  control("who").addEventListener("change", chooseParticipant);
  for (const name of ["models", "price", "brought"]) control(name).addEventListener("input", update);
  control("reset").addEventListener("click", () => {
    control("models").value = "0";
    control("price").value = control("price").defaultValue;
    chooseParticipant();
  });
  chooseParticipant();
}
