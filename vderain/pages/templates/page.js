for (const range of document.querySelectorAll('.stack input')) {
  const drag = () => {
    range.parentNode.style.setProperty('--at', range.value + '%');
    range.parentNode.classList.toggle('closed', range.value < 2);
  };
  range.oninput = drag;
  drag();
}
for (const button of document.querySelectorAll('.tabs button'))
  button.onclick = () => {
    const view = button.closest('.view');
    for (const other of view.querySelectorAll('button')) other.setAttribute('aria-pressed', other === button);
    view.querySelector('img.under').src = button.dataset.file;
    view.querySelector('em.r').textContent = button.textContent;
  };
for (const head of document.querySelectorAll('th'))
  head.onclick = () => {
    const body = head.closest('table').tBodies[0], place = head.cellIndex, up = head.dataset.up === '0';
    for (const other of head.parentNode.cells) delete other.dataset.up;
    head.dataset.up = up ? '1' : '0';
    const key = row => { const cell = row.cells[place]; return cell.dataset.value ?? cell.textContent; };
    const number = row => { const value = parseFloat(key(row)); return Number.isNaN(value) ? -Infinity : value; };
    const order = head.classList.contains('text')
      ? (a, b) => key(b).localeCompare(key(a)) : (a, b) => number(b) - number(a);
    const rows = [...body.rows].sort(order);
    for (const row of up ? rows.reverse() : rows) body.append(row);
  };
