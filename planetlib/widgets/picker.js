// A field to choose a file with, or to drop one on. The file goes to the kernel in parts: a message of more than 10 MB
// breaks the page's connection to it.
const PART = 4 << 20, MOST = 256 << 20;

function render({ model, el }) {
  el.innerHTML = `<label class="planetlib-picker"><span>choose a picture, or drop one here</span>
    <input type="file" accept="image/*,.tif,.tiff,.jp2,.j2k,.avif,.fits,.fit,.fts,.fz,.gz"></label>`;
  const [field, words, input] = ["label", "span", "input"].map(name => el.querySelector(name));

  const send = async file => {
    if (!file) return;
    if (file.size > MOST) {
      words.textContent = `${file.name}: ${file.size >> 20} MB; at most ${MOST >> 20} MB can be sent`;
      return;
    }
    words.textContent = `${file.name} · choose or drop another`;
    const parts = Math.max(1, Math.ceil(file.size / PART));
    for (let part = 0; part < parts; part++) {
      const content = await file.slice(part * PART, (part + 1) * PART).arrayBuffer();
      model.send({ name: file.name, part, parts }, undefined, [content]);
    }
  };

  const over = event => {
    event.preventDefault();
    event.stopPropagation();
    field.classList.toggle("planetlib-over", event.type === "dragover");
  };
  field.addEventListener("dragover", over);
  field.addEventListener("dragleave", over);
  field.addEventListener("drop", event => {
    over(event);
    send(event.dataTransfer.files[0]);
  });
  input.addEventListener("change", async () => {
    await send(input.files[0]);
    input.value = "";
  });
}

export default { render };
