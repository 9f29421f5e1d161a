"""What the devices report while a run goes on: readings, the thread that takes them, and energy computed from them."""
